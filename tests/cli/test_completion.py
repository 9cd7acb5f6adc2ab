"""Tab, through the protocols of the shells; in bash also through the script that is installed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fromscratch.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, a recipe, prepared data and texts."""
    for path in ("runs/mine/recipe.toml", "runs/other/recipe.toml", "prepared/a/manifest.json",
                 "my.toml", "texts/a.txt", "texts/b.txt", "model/config.json"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bash(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> list[str]:
    """What bash is offered for the last word."""
    monkeypatch.setenv("_FROMSCRATCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["fromscratch", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit) as end:
        main([])
    assert not end.value.code
    return capsys.readouterr().out.split()


OFFERS = {
    "tr": ["try", "train"],
    "data ": ["show", "merge"],
    "train mode": ["modern-124m", "model/"],
    "train mini": ["minigpt-124m"],
    "train m": ["minigpt-124m", "mix-503020", "mix-switch", "modern-124m", "model/", "my.toml"],
    "plan try model.n_la": ["model.n_layer=", "model.n_layer=2"],
    "plan try tra": ["train.", "track."],
    "plan try model.n_": ["model.n_layer=", "model.n_head=", "model.n_kv_head="],
    "plan try train.precision=": ["auto", "fp32", "tf32", "bf16", "fp16"],
    "plan try train.precision=b": ["bf16"],
    "plan try optim.name=adamw model.act": [
        f"model.activation={name}" for name in ("gelu", "gelu_tanh", "relu", "relu2", "swiglu")
    ],
    "plan try data.path=tex": ["texts/a.txt", "texts/b.txt"],
    "train try --r": ["--run"],
    "plan try --gpu rtx30": ["rtx3060", "rtx3070", "rtx3080", "rtx3090"],
    "resume ": ["runs/mine", "runs/other"],
    "resume runs/m": ["runs/mine"],
    "chat ": ["runs/mine", "runs/other", "model"],
    "data show ": ["prepared/a"],
    "chat runs/mine --template c": ["chatml"],
    "prepare texts --documents p": ["passage", "paragraph"],
    "plan try nonsense=": [],
}


@pytest.mark.parametrize("line", OFFERS)
def test_bash_is_offered(line: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    words: list[str] = []
    for word in line.split(" "):  # as bash parts them
        key, equals, value = word.partition("=")
        words += [key, equals, value] if value else [key, equals] if equals else [key]
    offered = bash(words, monkeypatch, capsys)
    if line == "train m":
        assert set(OFFERS[line]) <= set(offered)
    elif line == "plan try tra":
        assert set(offered) == {"train.", "track."}
    else:
        assert offered == OFFERS[line]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fromscratch plan try train.precision=b", "train.precision=bf16"),
        ("fromscratch plan try model.n_la", "model.n_layer="),
        ("fromscratch resume ", "runs/mine"),
    ],
)
def test_zsh_is_offered(
    line: str, offered: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("_FROMSCRATCH_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    with pytest.raises(SystemExit):
        main([])
    assert f'"{offered}"' in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_for_bash_works_in_bash(here: Path):
    program = f"{shlex.quote(sys.executable)} -X importtime -m fromscratch"
    (here / "fromscratch").write_text(f'#!/bin/sh\nexec {program} "$@" 2>>imported\n')
    (here / "fromscratch").chmod(0o755)
    script = """
        eval "$(fromscratch --show-completion bash)"
        complete -p fromscratch >/dev/null || exit 1
        COMP_WORDS=(fromscratch plan try train.precision = b); COMP_CWORD=5
        _fromscratch_completion fromscratch
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
        cwd=here, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["bf16"], done
    imported = (here / "imported").read_text()
    assert "fromscratch.runs.recipe_keys" in imported
    for heavy in ("torch", "matplotlib", "pyarrow", "huggingface_hub"):
        assert f"| {heavy}\n" not in imported.replace("|   ", "| "), heavy
