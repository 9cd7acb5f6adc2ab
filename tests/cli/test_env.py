"""`env` describes the machine, above all one on which something is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fromscratch import __version__

SECRET = "hf_NobodyMayEverSeeThis0123456789"


def env(*arguments, before="", **environment):
    """`fromscratch env` in a process of its own, after some lines of Python."""
    code = f"import sys\n{before}\nfrom fromscratch.cli.main import main\nmain(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "env", *arguments],
        env=os.environ | {"NO_COLOR": "1", "HF_TOKEN": SECRET} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(folder: Path, name: str, answer: str) -> None:
    """A program that says something, first on the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{answer}'\n")
    (folder / name).chmod(0o755)


def test_all_of_it_in_words_and_in_json(tmp_path):
    program(tmp_path / "bin", "nvidia-smi", "Tesla T4, 15360 MiB, 550.54.15")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    proxy = "http://ada:lovelace@proxy:80"
    found = json.loads(env("--json", PATH=path, HTTPS_PROXY=proxy, OMP_NUM_THREADS="1"))
    assert found["fromscratch"]["version"] == __version__
    assert found["python"]["version"].endswith(sys.version.split()[0])
    assert found["torch"]["version"] == torch.__version__
    assert found["chosen"]["train.precision"].split(":")[0] in ("fp32", "bf16", "fp16")
    assert found["packages"]["core"]["torch"] == torch.__version__
    assert found["variables"]["HF_TOKEN"] == "(set, not shown)"
    assert found["variables"]["HTTPS_PROXY"] == "http://***@proxy:80"
    assert found["machine"]["cwd_disk"].split()[1] == "GB"
    assert found["devices"]["nvidia_driver"].startswith("Tesla T4")
    if not torch.cuda.is_available():
        assert "the driver sees a GPU and torch does not" in found["devices"]["problem"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("sys.modules['torch'] = None", "torch cannot be imported"),
        (
            "sys.path.insert(0, FOLDER)",
            "libcudart.so.12: cannot open shared object file",
        ),
    ],
)
def test_where_torch_is_missing_or_broken_that_is_what_it_says(tmp_path, broken, said):
    (tmp_path / "torch.py").write_text(f"raise OSError({said!r})")
    out = env(before=broken.replace("FOLDER", repr(str(tmp_path))))
    assert said in out
    assert __version__ in out
    assert "cores" in out


def test_where_nothing_answers_it_says_so(tmp_path):
    """No git, no driver, a folder that was removed, no home, no metadata of packages."""
    gone = "import os, tempfile\nd = tempfile.mkdtemp()\nos.chdir(d)\nos.rmdir(d)\n"
    gone += "sys.modules['torch'] = sys.modules['packaging'] = None"
    found = json.loads(env("--json", before=gone, PATH=str(tmp_path), PYTHONSAFEPATH="1"))
    assert "unknown (FileNotFoundError" in found["machine"]["cwd"]
    assert "usable of" in found["machine"]["cores"]
    assert "error" in found["packages"]
    assert found["python"]["version"]
