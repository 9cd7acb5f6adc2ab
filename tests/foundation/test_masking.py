"""Nothing that opens a door is shown in a bug report."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.masking import MASK, shown_variables, without_secrets

WORDS = ("TOKEN", "API_KEY", "SECRET", "PASSWORD", "CREDENTIALS", "AUTH", "ACCESS_KEY_ID", "COOKIE")
PREFIXES = ("HF", "WANDB", "OPENAI", "KAGGLE", "HUGGING_FACE_HUB", "SLURM", "CONDA", "FROMSCRATCH")


@given(
    prefix=st.sampled_from(PREFIXES),
    word=st.sampled_from(WORDS),
    value=st.text(string.ascii_letters + string.digits + "-_/+=", min_size=6, max_size=80),
)
def test_a_variable_that_is_called_secret_is_never_shown(prefix, word, value):
    shown = shown_variables({f"{prefix}_{word}": value, f"{prefix.lower()}_{word.lower()}": value})
    assert set(shown.values()) == {MASK}


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 11,
        "sk-" + "proj-" + "x9Y" * 12,
        "ghp_" + "z8" * 18,
        "0123456789abcdef" * 2 + "01234567",  # wandb's form
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_a_token_in_a_harmless_variable_is_taken_out(secret):
    shown = shown_variables(
        {"HF_ENDPOINT": f"https://hub.example/{secret}/x", "WANDB_NOTES": secret}
    )
    assert secret not in repr(shown)
    assert shown["HF_ENDPOINT"].startswith("https://hub.example/")


@given(
    login=st.text(string.ascii_letters + string.digits + ":.-_%", min_size=1, max_size=30),
    host=st.sampled_from(["proxy:3128", "hub.example/simple", "10.0.0.1"]),
)
def test_a_login_in_an_address_is_taken_out(login, host):
    said = without_secrets(f"see http://{login}@{host} for more")
    assert said == f"see http://***@{host} for more"


def test_what_bears_on_training_is_shown_as_it_is():
    plain = {
        "OMP_NUM_THREADS": "8",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:512",
        "TIKTOKEN_CACHE_DIR": "/data/gpt2-bpe",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "LOCAL_RANK": "0",
        "NCCL_DEBUG": "INFO",
        "https_proxy": "http://proxy:80",
    }
    assert shown_variables(plain) == dict(sorted(plain.items()))
    assert shown_variables({"MY_DIARY": "x", "PS1": "$", "SHLVL": "1", "HOME": "/home/ada"}) == {}


def test_the_home_folder_names_nobody():
    shown = shown_variables({"HF_HOME": "/home/ada/.cache/hf"}, Path("/home/ada"))
    assert shown == {"HF_HOME": "~/.cache/hf"}
    assert without_secrets("/usr/lib", Path("/")) == "/usr/lib"
