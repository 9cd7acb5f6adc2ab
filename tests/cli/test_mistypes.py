"""What was mistyped is answered with the line that was meant, and exit code 2."""

from pathlib import Path

import pytest

from fromscratch.cli.main import main
from fromscratch.cli.overrides import as_meant

# What is typed -> the line to type instead, or what else the fix says.
MISTYPES = {
    "trian try": "fromscratch train try",
    "help": "fromscratch --help",
    "help train": "fromscratch train --help",
    "version": "fromscratch --version",
    "pretrain": "fromscratch train",
    "finetune": "fromscratch train sft-110 --from MODEL",
    "download": "fromscratch prepare hf:ORG/NAME --out DATA",
    "data shwo data-bytes": "fromscratch data show data-bytes",
    "xyzzy": "fromscratch --help lists them all",
    "train --hlep": "fromscratch train --help",
    "plan try --jsno": "fromscratch plan try --json",
    "generate runs/mine --max-tokens=5": "fromscratch generate runs/mine --max-new-tokens=5",
    "train modern-124m --gpu rtx3090": "These have it: plan, scale.",
    "plan try --train.steps=5 optim.lr=1e-3": "fromscratch plan try train.steps=5 optim.lr=1e-3",
    "train try --train.steps 5 --run x": "fromscratch train try train.steps=5 --run x",
    "train try --lr 3e-4": "fromscratch train try optim.lr=3e-4",
    "plan try --model.n-layers 3": "fromscratch plan try model.n_layer=3",
    "plan try train.steps = 5": "fromscratch plan try train.steps=5",
    "plan try train.steps =5 optim.lr=1": "fromscratch plan try train.steps=5 optim.lr=1",
    "plan try train.steps= 5": "fromscratch plan try train.steps=5",
    "plan try model.n_layer 6": "fromscratch plan try model.n_layer=6",
    "plan try model.n_layer: 6": "fromscratch plan try model.n_layer=6",
    "plan try train.steps:5 --json": "fromscratch plan try train.steps=5 --json",
    "resume runs/mine train.steps = 5": "fromscratch resume runs/mine train.steps=5",
    "plan TRYE": 'Did you mean "try"?',
    "plan texts": "fromscratch train modern-124m data.path=texts",
    "plan runs/mine": "fromscratch resume runs/mine",
    "train": "Example: fromscratch train try train.steps=500 --run runs/first",
    "prepare texts": "Example: fromscratch prepare",
    "prepare texts --out x --documents pasage": 'Did you mean "passage"?',
    "train try --run": "--run RUN: Folder of the run.",
    "chat runs/mine --json=5": "--json takes no value",
    "generate runs/mine --top-k five": "--top-k five: that is not a whole number.",
    "generate runs/mine --max-new-tokens 0": "--max-new-tokens 0: the least is 1.",
    "generate runs/mine hello world": "Text with blanks goes in quotes.",
    "resume runs/mnie": 'Did you mean "runs/mine"?',
    "resume runs": "These in it are: runs/mine.",
    "report rums/mine": 'Did you mean "runs/mine"?',
    "generate runs/mime hello": 'Did you mean "runs/mine"?',
    "prepare text --out x": 'Did you mean "texts"?',
    "prepare HuggingFaceFW/fineweb-edu --out x": '"hf:HuggingFaceFW/fineweb-edu"',
    "data show datum": 'Did you mean "data"?',
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts and a run."""
    for folder in ("runs/mine", "texts", "data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/mine/recipe.toml").write_text("")
    (tmp_path / "texts/a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", MISTYPES)
def test_a_mistyped_line_is_answered(line: str, here: Path, capsys: pytest.CaptureFixture[str]):
    before = sorted(here.rglob("*"))
    with pytest.raises(SystemExit) as end:
        main(line.split())
    said = capsys.readouterr()
    assert end.value.code == 2
    assert MISTYPES[line] in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("error: ") == 1
    assert len(said.err.strip().split("\n")) == 2 or "--top-k" in line or "tokens 0" in line
    assert not said.out
    assert sorted(here.rglob("*")) == before, "nothing was begun"


@pytest.mark.parametrize(
    "words",
    [
        ["train.steps=5", "optim.lr=3e-4"],
        ["sample.prompts=['a b']", "data.path=C:/texts"],
        ["optim.betas=[0.9, 0.95]"],
        ["optim.muon_lr=0.01,0.03", "optim.lr=1e-4:1e-2:log"],
        ["data.path=a=b"],
    ],
)
def test_what_is_right_is_left_alone(words: list[str]):
    assert as_meant(words) == words
