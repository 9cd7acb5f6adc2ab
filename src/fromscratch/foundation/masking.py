"""What of the environment may be shown to strangers: a bug report is public.

In: environment variables. Out: those that bear on training, with everything that opens a door taken
out: by the variable's name, by the value's form, and inside addresses. A value that is masked here
without need costs a question; one that is shown costs an account. So doubt masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

MASK = "(set, not shown)"

_RELEVANT = re.compile(
    r"(FROMSCRATCH|TORCH|PYTORCH|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|GLOO|TRITON|HIP|ROCR|HSA|MPS|OMP|MKL|"
    r"OPENBLAS|KMP|RAYON|TOKENIZERS|TIKTOKEN|HF|HUGGING_FACE|HUGGINGFACE|TRANSFORMERS|BNB|WANDB|"
    r"OPENAI|SLURM|COLAB|KAGGLE|PYTHON|VIRTUAL_ENV|CONDA|XDG|MASTER)(_.*|[A-Z]*)"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|GROUP_WORLD_SIZE|LD_LIBRARY_PATH|LD_PRELOAD|TERM|NO_COLOR|COLUMNS"
    r"|FORCE_COLOR|CI|LANG|LC_ALL|TMPDIR|TEMP|(ALL|HTTPS?|NO)_PROXY|(REQUESTS|CURL)_CA_BUNDLE"
    r"|SSL_CERT_(FILE|DIR)"
)
_SECRET_NAME = re.compile(
    r"(?<!TIK)TOKEN(?!IZERS)|KEY|SECRET|PASS|PASSWD|CREDENTIAL|AUTH|COOKIE|PRIVATE|SIGNATURE"
    r"|_PAT\b|JWT|SESSION"
)
_TOKEN = re.compile(r"(hf_|sk-|ghp_|gho_|github_pat_|glpat-|xox[a-z]-|AKIA|ya29\.|eyJ)[\w.-]{6,}")
# A long run of letters and digits may be anybody's key; the words of a path are shorter.
_PERHAPS_TOKEN = re.compile(
    r"(?<![\w+=-])(?=[\w+=-]*\d)(?=[\w+=-]*[A-Za-z])[\w+=-]{28,}(?![\w+=-])"
)
_WITH_LOGIN = re.compile(r"(?<=//)[^/@\s]*@")


def shown_variables(environment: Mapping[str, str], home: Path | None = None) -> dict[str, str]:
    """The variables that bear on training, by name, with nothing secret in their values.

    Args:
        environment: All of them.
        home: What is written as `~`, because it names a person.
    """
    found = {}
    for name in sorted(environment):
        upper = name.upper()
        if not _RELEVANT.fullmatch(upper):
            continue
        if _SECRET_NAME.search(upper):
            found[name] = MASK
        else:
            found[name] = _PERHAPS_TOKEN.sub("***", without_secrets(environment[name], home))
    return found


def without_secrets(text: str, home: Path | None = None) -> str:
    """A text with known kinds of tokens, logins in addresses and the home folder taken out."""
    text = _TOKEN.sub("***", _WITH_LOGIN.sub("***@", text))
    # A home of `/` names nobody.
    return text if home is None or len(home.parts) < 2 else text.replace(str(home), "~")
