"""The commands in README.md are run, in its order, as they stand."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A newcomer has ten minutes; a test has seconds. Only lengths are changed, never what is done.
SHORTER = {"--minutes 10": "--minutes 0.02", "train.steps=2000": "train.steps=12"}


def commands(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.strip().split("\n")]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(document: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = [c.split("#")[0].split()[1] for c in commands(document) if c.startswith("make ")]
    assert made
    for target in made:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.slow
def test_the_readme_s_commands_work_one_after_the_other(tmp_path: Path):
    texts = tmp_path / "my-texts"
    texts.mkdir()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:60]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    ours = [c for c in commands("README.md") if c.startswith("fromscratch ")]
    assert len(ours) >= 8
    for command in ours:
        for long, short in SHORTER.items():
            command = command.replace(long, short)
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=tmp_path,
            env=os.environ | {"NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "runs/try/report.html").is_file()


def test_pictures_that_the_readme_shows_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).stat().st_size < 200_000
