"""The commands in the README and on the pages of docs/ are run, in their order, as they stand."""

import gzip
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import typer
from typed_commands import PAGES, ROOT, blocks, commands
from typer.core import TyperGroup

from fromscratch.cli.chat_commands import COMMANDS
from fromscratch.cli.main import app
from fromscratch.cli.sampling_settings import SETTINGS
from fromscratch.data.watching import unwatched
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.runs.chat_config import ChatConfig
from fromscratch.runs.opened_data import parts_of
from fromscratch.runs.preference_config import PreferenceConfig
from fromscratch.runs.recipe import CheckpointConfig
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.sweep_plan import plan_sweep
from fromscratch.train.guard_config import GuardConfig
from tests.cli.chat_models import END, write_model
from tests.end_to_end.ladders import settle
from tests.forking.forks import Forks

# A newcomer has ten minutes; a test has seconds. Only lengths, widths and vocabularies are changed,
# never what is done.
SHORTER = {
    "--minutes 10": "--minutes 0.0001",  # the fewest steps there are, ten
    "train.steps=2000": "train.steps=12",
    "train.steps=3000": "train.steps=16",
    "--tokenizer gpt2": "--tokenizer bytes",
}
NARROWER = "model.d_model=32 model.d_ff=64 model.n_head=2 eval.tokens=2048"
"""Of the recipe `try`. It comes before what the page says, which therefore holds."""


RUN_PAGES = {
    "README.md",
    *(
        f"docs/{page}.md"
        for page in (
            "chat",
            "checkpoints",
            "command-line",
            "data",
            "doctor",
            "evaluate",
            "export",
            "diagnosis",
            "finetune",
            "guards",
            "logs",
            "multi-gpu",
            "planning",
            "precision",
            "preferences",
            "report",
            "scale",
            "sweep",
            "tokenizers",
            "trackers",
            "training",
            "tutorial",
        )
    ),
    *(page for page in PAGES if page.startswith("docs/how-to/")),
}
"""Those whose commands are run by a test, below or in test_how_to_commands.py."""


@pytest.fixture
def newcomer(tmp_path: Path, forks: Forks) -> Path:
    """A folder with what the pages call by name, and `fromscratch` on the path."""
    texts = tmp_path / "my-texts"
    texts.mkdir()
    library = Path(sysconfig.get_paths()["stdlib"])
    small = [path for path in sorted(library.glob("*.py")) if path.stat().st_size < 20_000]
    for path in [*small[:30], library / "argparse.py"]:
        shutil.copy(path, texts / f"{path.stem}.txt")
    program = tmp_path / ".bin" / "fromscratch"
    program.parent.mkdir()
    forks.program(program)
    launcher = program.with_name("torchrun")
    launcher.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m torch.distributed.run "$@"\n'
    )
    launcher.chmod(program.stat().st_mode | stat.S_IXUSR)
    python = program.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(launcher.stat().st_mode)
    return tmp_path


@pytest.fixture
def collector(newcomer: Path) -> Path:
    """The same with text of every kind that docs/data.md reads."""
    words = [f"Paragraph {i} has {i * i} words, or nearly so.\n\n" for i in range(600)]
    (newcomer / "notes/old").mkdir(parents=True)
    for i in range(5):
        (newcomer / f"notes/old/{i}.md").write_text("".join(words[i * 100 : (i + 1) * 100]))
    (newcomer / "novel.txt.gz").write_bytes(gzip.compress("".join(words).encode()))
    rows = [{"id": i, "text": words[i] * 5, "body": words[i] * 4} for i in range(300)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (newcomer / "stories.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (newcomer / "articles.jsonl").write_text(lines)
    (newcomer / "pages").mkdir()
    for i in range(3):
        table = pyarrow.table({"text": [f"Page {i}.{j}: {words[j]}" for j in range(200)]})
        pyarrow.parquet.write_table(table, newcomer / f"pages/{i}.parquet")
    alpaca = [{"instruction": w, "input": "", "output": w.upper()} for w in words[:200]]
    (newcomer / "instructions.json").write_text(json.dumps(alpaca))
    turns = [
        {"messages": [{"role": "user", "content": w}, {"role": "assistant", "content": "Yes."}]}
        for w in words[:200]
    ]
    (newcomer / "chats.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    ids = np.concatenate([[*w.encode(), 256] for w in words[:100]])  # of the tokenizer `bytes`
    ids.astype("<u2").tofile(newcomer / "train.bin")
    (newcomer / "scraped").mkdir()
    for i in range(30):
        (newcomer / f"scraped/{i}.txt").write_text("".join(words[i : i + 20]))
    (newcomer / "scraped/torn.jsonl").write_text('{"text": "good"}\n{"text": "ba')
    # An item that stands in the training text, as docs/data.md says of it.
    abc = (newcomer / "my-texts/argparse.txt").read_text()
    items = [{"question": " ".join(abc.split()[n : n + 60])} for n in range(1000, 3000, 60)]
    (newcomer / "questions.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    for block in blocks("docs/data.md", "toml"):
        name = block.text.split("\n")[0].removeprefix("# ")
        (newcomer / name).write_text(block.text)
    return newcomer


def run_page(page: str, place: Path, shorter: Mapping[str, str] = MappingProxyType({})) -> int:
    """Runs a page's commands one after the other; returns how many there were."""
    ours = [(c, code) for c, code in commands(page) if re.search(r"fromscratch |^python ", c)]
    for command, code in ours:
        for long, short in (SHORTER | dict(shorter)).items():
            command = command.replace(long, short)
        command = re.sub(r"fromscratch (train |bench |plan |)try\b", rf"\g<0> {NARROWER}", command)
        if "fromscratch prepare" in command and "--tokenizer" not in command:
            command = command.replace(
                "fromscratch prepare", "fromscratch prepare --tokenizer bytes"
            )
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=place,
            env=os.environ
            | {"NO_COLOR": "1", "PATH": f"{place / '.bin'}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return len(ours)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(document: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = [c.split()[1] for c, _ in commands(document) if c.startswith("make ")]
    assert made
    for target in made:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.slow
def test_the_readme_s_commands_work_one_after_the_other(newcomer: Path):
    short = [{"instruction": f"Say {i}", "input": "", "output": f"{i}!"} for i in range(40)]
    (newcomer / "instructions.json").write_text(json.dumps(short))
    assert run_page("README.md", newcomer) >= 11
    assert (newcomer / "my-model/README.md").is_file()
    assert (newcomer / "runs/try/report.html").is_file()


@pytest.mark.slow
def test_the_commands_about_data_work_one_after_the_other(
    collector: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run_page("docs/data.md", collector) >= 20
    skipped = json.loads((collector / "prepared/scraped/manifest.json").read_text())["sources"]
    assert skipped[0]["files_skipped"] == 1
    monkeypatch.chdir(collector)
    for block in blocks("docs/data.md", "python"):
        exec(block.text, {})


@pytest.mark.slow
def test_the_commands_about_tokenizers_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/tokenizers.md", newcomer) >= 6


@pytest.mark.slow
def test_the_commands_about_training_work_one_after_the_other(newcomer: Path):
    (recipe,) = blocks("docs/training.md", "toml")
    # Its steps as they are, of an eighth of the tokens.
    smaller = recipe.text.replace("1_024", "128").replace("micro_batch = 16", "micro_batch = 2")
    assert smaller != recipe.text
    (newcomer / recipe.text.split("\n")[0].removeprefix("# ")).write_text(smaller)
    assert run_page("docs/training.md", newcomer) == 6
    borders = {"two-phases": 100, "flat": 151}
    for run, step in borders.items():
        events = (newcomer / f"runs/{run}/events.jsonl").read_text().splitlines()
        found = [e["step"] for e in map(json.loads, events) if e["event"] == "phase"]
        assert found == [step], run


def test_the_commands_about_the_doctor_work_one_after_the_other(newcomer: Path):
    shutil.copytree(ROOT / "docs/as-run", newcomer / "docs/as-run")
    (newcomer / "my-items.jsonl").write_text(json.dumps({"text": "one two " * 9}) + "\n")
    assert run_page("docs/doctor.md", newcomer) == 14


@pytest.mark.long
def test_the_commands_about_scaling_work_one_after_the_other(
    newcomer: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its ladder is settled here: how far a budget comes is another thing on every machine."""
    (recipe,) = blocks("docs/scale.md", "toml")
    (newcomer / "mine.toml").write_text(recipe.text)
    monkeypatch.chdir(newcomer)
    data = parts_of(load_recipe("mine.toml").data, unwatched)
    held_out = {
        f"val_{what}": sum(p.total(what, "val") for p in data) for what in ("tokens", "bytes")
    }
    settle(Path("scale/mine"), Path("mine.toml"), held_out={**held_out, "tokenizer": "bytes"})
    assert run_page("docs/scale.md", newcomer) == 4
    page = (newcomer / "runs/larger/report.html").read_text("utf-8")
    assert "Predicted and achieved" in page
    assert (newcomer / "scale/mine/scale.png").is_file()


def test_the_commands_about_reports_work_one_after_the_other(newcomer: Path):
    for name in ("mine", "other"):
        (newcomer / "runs" / name).mkdir(parents=True)
        rows = [{"step": s, "loss": 4 - s / 50, "tokens": s, "seconds": s} for s in range(60)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (newcomer / f"runs/{name}/metrics.jsonl").write_text(text)
    assert run_page("docs/report.md", newcomer) == 3
    assert "What differs" not in (newcomer / "both.html").read_text()
    assert "kWh at 250 W" in (newcomer / "mine.html").read_text()


def test_the_commands_about_guards_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/guards.md", newcomer) >= 3
    assert (newcomer / "runs/looked-at/health.jsonl").read_text().count("\n") == 2
    assert run_page("docs/diagnosis.md", newcomer) == 1  # of that page's run
    assert 'id="landscape"' in (newcomer / "runs/looked-at/report.html").read_text("utf-8")
    for block in blocks("docs/guards.md", "toml"):
        GuardConfig(**tomllib.loads(block.text)["guard"])


def test_the_mistakes_on_the_page_about_the_command_line_are_mistakes(newcomer: Path):
    assert run_page("docs/command-line.md", newcomer) == 3


def test_the_commands_about_logs_work_one_after_the_other(newcomer: Path):
    logs = newcomer / "their-logs"
    logs.mkdir()
    runs = [(0, 10, 20), (0, 10)]
    rows = [{"step": s, "train_loss": 4 - s / 20, "val_loss": 4.5} for run in runs for s in run]
    (logs / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (logs / "README.md").write_text("What we trained.\n")
    assert run_page("docs/logs.md", newcomer) == 2
    for name, last in (("theirs", 10), ("first", 20)):
        assert (newcomer / f"runs/{name}/llm_training_curves.png").is_file()
        assert json.loads((newcomer / f"runs/{name}/import.json").read_text())["last_step"] == last


@pytest.mark.long
def test_the_commands_about_planning_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/planning.md", newcomer) == 7
    recipe = (newcomer / "runs/auto/recipe.toml").read_text()
    assert re.search(r"^micro_batch = \d+$", recipe, re.MULTILINE)
    assert (newcomer / "runs/bench.json").is_file()


@pytest.mark.slow
def test_the_commands_about_checkpoints_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/checkpoints.md", newcomer) == 3
    assert (newcomer / "runs/notes/checkpoints/latest").resolve().name == "step-00000016"


def test_the_commands_about_chats_work_one_after_the_other(newcomer: Path):
    (newcomer / "runs").mkdir()
    write_model(newcomer / "runs/chat", [*b"A word. ", END], context=256, chats=True)
    write_model(newcomer / "runs/notes", [*b"number 7 "], context=256, chats=False)
    assert run_page("docs/chat.md", newcomer) == 5


def test_the_table_of_settings_is_what_can_be_set():
    rows = re.findall(
        r"^\| (`[^|]+`) \| ([^|]*) \|", (ROOT / "docs/chat.md").read_text("utf-8"), re.MULTILINE
    )
    defaults = SamplingOptions()
    named = {name: shown for names, shown in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(SETTINGS) == {name for name in named if name in SETTINGS}
    for name, shown in named.items():
        if hasattr(defaults, name):
            assert float(shown) == getattr(defaults, name), name


def test_the_table_of_commands_is_what_can_be_typed():
    text = (ROOT / "docs/chat.md").read_text("utf-8")
    for name in COMMANDS:
        assert re.search(rf"^\|.*`{name}[` ]", text, re.MULTILINE), name


@pytest.fixture
def base_model(newcomer: Path, forks: Forks) -> None:
    """A tiny model in runs/base, by the recipe more.toml."""
    base = """
[model]
n_layer = 1
n_head = 2
d_model = 16
context = 256
[data]
path = "my-texts"
tokenizer = "bytes"
[train]
steps = 2
tokens_per_step = 512
micro_batch = 2
[sample]
every = 0
"""
    (newcomer / "more.toml").write_text(base)
    made = forks.run("train", "more.toml", "--run", "runs/base", cwd=newcomer)
    assert made.code == 0, made.err


@pytest.mark.slow
def test_the_commands_about_preferences_work_one_after_the_other(
    newcomer: Path, base_model: None, forks: Forks
):
    """Both recipes begin with the base model; that DPO then warns is tested elsewhere."""
    shutil.copytree(newcomer / "runs/base", newcomer / "runs/talk")
    pairs = [{"prompt": f"Say {i}", "chosen": f"{i}!", "rejected": "no"} for i in range(120)]
    (newcomer / "pairs.json").write_text(json.dumps(pairs))
    assert run_page("docs/preferences.md", newcomer) == 2
    keys = set()
    for line in (newcomer / "runs/polite/metrics.jsonl").read_text().splitlines():
        keys |= json.loads(line).keys()
    page = (ROOT / "docs/preferences.md").read_text("utf-8")
    for key in ("accuracy", "margin", "reward_chosen", "reward_rejected"):
        assert f"`{key}`" in page
        assert {key, f"val_{key}"} <= keys
    rows = re.findall(r"^\| `(\w+)` \| `([\d.]+)` \|", page, re.MULTILINE)
    assert {key: float(value) for key, value in rows} == PreferenceConfig().model_dump()


@pytest.mark.slow
def test_the_commands_about_finetuning_work_one_after_the_other(newcomer: Path, base_model: None):
    short = [{"instruction": f"Say {i}", "input": "", "output": f"{i}!"} for i in range(60)]
    (newcomer / "instructions.json").write_text(json.dumps(short))
    (recipe,) = blocks("docs/finetune.md", "toml")
    (newcomer / recipe.text.split("\n")[0].removeprefix("# ")).write_text(recipe.text)
    assert run_page("docs/finetune.md", newcomer) == 3
    for run in ("talk", "110"):
        answers = json.loads((newcomer / f"runs/{run}/answers.json").read_text())
        (shown,) = blocks("docs/finetune.md", "json")
        assert list(answers[0]) == list(json.loads(shown.text))


def test_the_table_of_chat_keys_is_the_recipe_s():
    rows = re.findall(
        r"^\| `(\w+)` \| (\S+) \|", (ROOT / "docs/finetune.md").read_text("utf-8"), re.MULTILINE
    )
    defaults = {k: v for k, v in ChatConfig().model_dump().items() if v is not None}
    told = {name: json.loads(value.strip("`")) for name, value in rows if value != "none"}
    assert told == defaults


def test_the_table_of_checkpoint_keys_is_the_recipe_s():
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/checkpoints.md").read_text("utf-8"), re.MULTILINE
    )
    defaults = CheckpointConfig().model_dump()
    assert {name: json.loads(value) for name, value in rows} == defaults


@pytest.mark.slow
def test_the_commands_about_evaluation_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/evaluate.md", newcomer) == 3
    assert (newcomer / "runs/notes/evals.jsonl").read_text().count("\n") == 3


@pytest.mark.long
def test_the_commands_about_many_processes_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/multi-gpu.md", newcomer) >= 2
    events = (newcomer / "runs/two/events.jsonl").read_text()
    assert '"ranks_changed"' in events


@pytest.mark.slow
def test_the_commands_about_exports_work_one_after_the_other(newcomer: Path):
    assert run_page("docs/export.md", newcomer) == 2
    assert (newcomer / "my-model.gguf").read_bytes()[:4] == b"GGUF"
    (page,) = blocks("docs/export.md", "python")
    exec(page.text.replace("runs/mine", str(newcomer / "runs/mine")), {})


def test_every_other_page_runs_nothing():
    for page in PAGES:
        if page not in RUN_PAGES:
            assert not [c for c, _ in commands(page) if "fromscratch " in c], page


NOT_RUN = [(page, c) for page in PAGES for c, _ in commands(page, run=False)]


@pytest.mark.parametrize(("page", "command"), NOT_RUN)
def test_commands_that_need_a_network_or_hours_have_the_right_options(page: str, command: str):
    words = shlex.split(command)
    if words[0] == "torchrun":
        assert words[words.index("fromscratch") - 2 :][:2] == ["-m", "--"]
        words = words[words.index("fromscratch") :]
    program, *words = words
    assert program == "fromscratch"
    arguments = parsed(words)
    if words[0] in ("plan", "train"):  # the recipe is there, and every key in it
        load_recipe(arguments["recipe"], arguments["overrides"] or [])
    if words[0] == "sweep" and arguments["recipe"]:
        sampler, trials = arguments["sampler"], arguments["trials"]
        plan_sweep(arguments["recipe"], arguments["settings"], sampler=sampler, trials=trials)


def test_a_wrong_option_is_found():
    with pytest.raises(Exception, match="No such option: --keep-locl"):
        parsed(["prepare", "hf:a/b", "--out", "x", "--keep-locl", "6GB"])


def parsed(words: list[str]) -> dict:
    """What the command line makes of the words, short of doing it."""
    command = typer.main.get_command(app)
    context = None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not isinstance(command, TyperGroup):
            return context.params
        words = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, words)


def test_the_arithmetic_of_fineweb_edu(capsys: pytest.CaptureFixture[str]):
    page = "docs/fineweb-edu.md"
    (block,) = blocks(page, "python")
    given: dict[str, float] = {}
    exec(block.text, given)
    text = (ROOT / page).read_text(encoding="utf-8")
    rate = float(re.findall(r"^\| R2 \| (\d+) MB", text, re.MULTILINE)[0]) * 1e6
    assert given["R"] == rate
    size = given["P"]

    def minutes(per_second: float, line: float) -> str:
        first = 2.15e9
        seconds = first / line + max((size - first) / line, given["T"] / per_second)
        return f"{seconds / 60:.0f} min"

    rows = {"**both, two cores**": 2, "both, one core": 1, "both, four cores, if they scale": 4}
    for name, cores in rows.items():
        (row,) = [r for r in text.split("\n") if r.startswith(f"| {name} |")]
        cells = row.replace("**", "").split(" | ")[1:]
        wanted = [minutes(rate / 2 * cores, line) for line in (12.5e6, 125e6)]
        assert [cell.rstrip(" |") for cell in cells] == wanted, name
    said = capsys.readouterr().out
    assert said.startswith(minutes(rate, 12.5e6).removesuffix(" min"))
    assert f"| the data, both together | | {re.findall(r'([0-9.]+) GB', said)[0]} GB |" in text


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_pages_that_are_pointed_at_are_there(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    for mark, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if mark:
            assert path.stat().st_size < 200_000, target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]


def test_the_three_lines_of_the_growing_share():
    (block,) = blocks("docs/data.md", "toml")
    stage = block.text.split("[[data.stage]]")[1].split("[train]")[0]
    assert len(textwrap.dedent(stage).strip().split("\n")) == 2  # and the table's own line
