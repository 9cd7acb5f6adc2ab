"""What a recipe's sources become: folders, parts of folders, validation sets, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fromscratch.data.prepare import PrepareOptions, prepare
from fromscratch.data.shards import load_manifest
from fromscratch.data.sources import Source
from fromscratch.doctor.checks import before_the_run
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.runs.assemble import new_run
from fromscratch.runs.data_config import DataConfig, SourceConfig
from fromscratch.runs.opened_data import OpenedData, open_data, prepared_folders
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import parse_recipe

HEAD = """
[model]
family = "gpt2"
n_layer = 1
n_head = 2
d_model = 16
context = 32
{vocabulary}
[train]
steps = 12
tokens_per_step = 256
micro_batch = 4
device = "cpu"
precision = "fp32"
[eval]
every = 6
[sample]
every = 0
[checkpoint]
every = 5
[data]
tokenizer = "{tokenizer}"
val_fraction = 0.2
documents = "file"
"""
ALPHABETS = {"letters": "abcdefgh", "digits": "01234567", "signs": "+-*/<>=!"}


def silent(event: object) -> None:
    pass


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of text that share no character."""
    base = tmp_path_factory.mktemp("texts")
    for name, alphabet in ALPHABETS.items():
        (base / name).mkdir()
        for i in range(40):
            (base / name / f"{i}.txt").write_text((alphabet[i % 8] + alphabet) * (i + 3))
    return base


@pytest.fixture(scope="module")
def together(texts: Path) -> Path:
    """All three in one prepared folder."""
    options = PrepareOptions(tokenizer="bytes", val_fraction=0.2, documents="file")
    sources = [Source(name, str(texts / name)) for name in ALPHABETS]
    return prepare(sources, texts / "together", options).folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipe_of(data: str, *, tokenizer: str = "bytes") -> Recipe:
    vocabulary = "" if tokenizer == "bytes" else "vocab_size = 300"
    return parse_recipe(HEAD.format(tokenizer=tokenizer, vocabulary=vocabulary) + data, name="x")


def source(name: str, path: Path, more: str = "") -> str:
    return f'[[data.source]]\nname = "{name}"\npath = "{path}"\n{more}\n'


def opened(recipe: Recipe) -> OpenedData:
    return open_data(recipe.data, recipe.model, 0, silent)


def characters(data: OpenedData, windows) -> set[str]:
    """What a source's stream is made of, end-of-text left out."""
    return set(data.tokenizer.decode(windows.stream.read(0, len(windows.stream)).tolist())) - set(
        data.tokenizer.decode([data.tokenizer.eot_id])
    )


def test_one_folder_can_be_mixed_by_weight(together: Path) -> None:
    parts = [source("signs", together, "weight = 3"), source("digits", together)]
    data = opened(recipe_of("".join(parts)))
    manifest = load_manifest(together)
    for trained, name in zip(data.training.sources, ("signs", "digits"), strict=True):
        assert characters(data, trained.windows) == set(ALPHABETS[name])
        assert len(trained.windows.stream) == manifest.total("tokens", "train", name)
    assert {v.name: characters(data, v.windows) for v in data.validation} == {
        name: set(ALPHABETS[name]) for name in ("signs", "digits")
    }
    described = data.describe()
    assert described["train_tokens"] == sum(
        manifest.total("tokens", "train", name) for name in ("signs", "digits")
    )
    assert described["sources"] == ["signs", "digits"]


def test_one_folder_with_several_sources_is_validated_by_source(together: Path) -> None:
    session = new_run(recipe_of(f'path = "{together}"'), Path("run"), report=silent)
    assert [v.name for v in session.data.validation] == list(ALPHABETS)
    assert len(session.data.training.sources) == 1, "trained on as one text"
    session.train()
    rows = [r for r in read_json_lines(session.paths.metrics) if "val_loss" in r]
    assert [r["set"] for r in rows] == ["validation", *ALPHABETS] * 3
    pooled, *each = rows[-4:]
    assert pooled["val_tokens"] == sum(r["val_tokens"] for r in each)
    manifest = load_manifest(together)
    assert pooled["val_tokens"] == manifest.total("tokens", "val")
    nats = sum(r["val_loss"] * r["val_tokens"] for r in each)
    assert pooled["val_loss"] == pytest.approx(nats / pooled["val_tokens"])


def test_a_tokenizer_that_is_trained_is_trained_on_all_sources(texts: Path) -> None:
    sources = [source(name, texts / name) for name in ALPHABETS]
    recipe = recipe_of("".join(sources), tokenizer="bpe:300")
    data = opened(recipe)
    assert len(set(data.folders.values())) == 1
    manifest = data.parts[0].manifest
    assert [s.name for s in manifest.sources] == list(ALPHABETS)
    for trained in data.training.sources:
        assert characters(data, trained.windows) == set(ALPHABETS[trained.name])
        # One tokenizer that has merges for each: fewer tokens than characters.
        assert len(trained.windows.stream) < 0.7 * manifest.total("bytes", "train", trained.name)
    before = {path: path.stat().st_mtime_ns for path in Path("prepared").rglob("*")}
    assert opened(recipe).training.fingerprint == data.training.fingerprint
    assert {path: path.stat().st_mtime_ns for path in Path("prepared").rglob("*")} == before


def test_whatever_changes_the_data_is_prepared_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe never trains on what was prepared from the same text in another way."""
    monkeypatch.chdir(tmp_path)
    records = [
        {"instruction": f"Add {i}.", "output": "Two.", "text": f"{i}", "row": f"row {i}"}
        for i in range(60)
    ]
    lines = [json.dumps(record) + "\n" for record in records]
    Path("a.jsonl").write_text("".join(lines))
    source = SourceConfig(name="a", path="a.jsonl")
    data = DataConfig(path="a.jsonl", tokenizer="bytes", val_fraction=0.2)
    folders = [
        prepared_folders([source.model_copy(update=of_source)], whole, silent)["a"]
        for of_source, whole in [
            ({}, data),
            ({"field": "row"}, data),
            ({"render": "alpaca"}, data),
            ({}, data.model_copy(update={"dedup": "exact"})),
            ({}, data.model_copy(update={"documents": "paragraph"})),
            ({}, data.model_copy(update={"seed": 5})),
        ]
    ]
    assert len(set(folders)) == len(folders)
    assert prepared_folders([source], data, silent)["a"] == folders[0]


def test_a_name_that_the_shared_folder_lacks_is_refused(together: Path) -> None:
    data = source("digits", together) + source("sings", together)
    with pytest.raises(UserError, match=r'"sings" is not a source in it. Did you mean "signs"'):
        opened(recipe_of(data))


def test_a_source_called_validation_does_not_hide_the_pooled_set(texts: Path) -> None:
    data = source("validation", texts / "digits") + source("signs", texts / "signs")
    session = new_run(recipe_of(data), Path("run"), report=silent)
    session.train()
    rows = [r for r in read_json_lines(session.paths.metrics) if "val_loss" in r][:3]
    assert [r["set"] for r in rows] == ["validation", "validation (source)", "signs"]
    assert rows[0]["val_tokens"] == rows[1]["val_tokens"] + rows[2]["val_tokens"]


def test_a_source_of_which_nothing_is_held_out_is_said(texts: Path) -> None:
    options = PrepareOptions(tokenizer="bytes", val_fraction=0.0, allow_no_validation=True)
    folder = prepare([Source("digits", str(texts / "digits"))], Path("all"), options).folder
    data = source("digits", folder) + source("signs", texts / "signs")
    session = new_run(recipe_of(data), Path("run"), report=silent)
    session.train()
    events = list(read_json_lines(session.paths.events))
    assert [e["message"] for e in events if e["event"] == "no_held_out_text"] == [
        'of "digits" nothing is held out, so nothing tells how it is learnt'
    ]
    sets = [r["set"] for r in read_json_lines(session.paths.metrics) if "val_loss" in r]
    assert sets[:2] == ["validation", "signs"], "the pooled set is there, of what there is"


# --- stages in a run ------------------------------------------------------------------------------

STAGE = "[[data.stage]]\nfrom_tokens = 1_300\nweights = {digits = 0, signs = 1}\n"


def staged(together: Path, stage: str = STAGE, limit: str = "") -> Recipe:
    return recipe_of(source("digits", together) + source("signs", together, limit) + stage)


def test_to_hold_nothing_out_takes_more_than_a_zero(texts: Path) -> None:
    recipe = recipe_of(f'path = "{texts / "letters"}"\n')
    none = recipe.model_copy(update={"data": recipe.data.model_copy(update={"val_fraction": 0.0})})
    with pytest.raises(UserError, match="prepare SOURCE --out DATA --no-validation"):
        opened(none)


def test_a_source_that_is_all_copies_is_refused_by_plan_and_by_training(texts: Path) -> None:
    options = PrepareOptions(tokenizer="bytes", val_fraction=0.2, documents="file", dedup="exact")
    sources = [Source(name, str(texts / "letters")) for name in ("first", "again")]
    folder = prepare(sources, Path("copies"), options).folder
    recipe = recipe_of(
        "".join(
            f'[[data.source]]\nname = "{name}"\npath = "{folder}"\nmax_epochs = 3\n'
            for name in ("first", "again")
        )
    )
    with pytest.raises(UserError, match=r'"again" has no training text.*as copies'):
        make_plan(recipe)
    with pytest.raises(UserError, match=r'"again" has no training text.*as copies'):
        opened(recipe)


def test_rows_of_a_mixture_carry_what_was_drawn_and_what_was_wanted(together: Path) -> None:
    session = new_run(staged(together), Path("run"), report=silent, advise=before_the_run)
    session.train()
    rows = [r for r in read_json_lines(session.paths.metrics) if "loss" in r]
    for row in rows:
        windows = 8 * row["step"]
        # By hand: halves up to token 1,300, which lies inside a window, then signs alone.
        digits = min(windows, 1300 / 32) / 2
        assert row["wanted"] == pytest.approx(
            {"digits": digits, "signs": windows - digits}, abs=0.01
        )
        assert sum(row["drawn"].values()) == windows
        assert all(abs(row["drawn"][name] - row["wanted"][name]) < 1 for name in row["wanted"])
    events = list(read_json_lines(session.paths.events))
    warned = [e["message"] for e in events if "R01" in e["message"]]
    assert len(warned) == 1
    assert 'share of "digits" goes from 50% to 0% at once' in warned[0]


def test_one_text_has_no_shares_in_its_rows(together: Path) -> None:
    session = new_run(recipe_of(f'path = "{together}"'), Path("run"), report=silent)
    session.train()
    assert not any("drawn" in row for row in read_json_lines(session.paths.metrics))


def test_a_run_that_is_stopped_between_stages_ends_as_if_it_was_not(together: Path) -> None:
    blend = STAGE.replace("1_300", "1_100") + "blend_tokens = 700\n"

    def trained(folder: str, *, micro_batch: int, stop_at: int | None) -> dict[str, torch.Tensor]:
        recipe = staged(together, blend)
        changed = {"micro_batch": micro_batch}
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})
        session = new_run(recipe, Path(folder), report=silent)
        if stop_at is not None:
            session.config = type(session.config)(**{**vars(session.config), "steps": stop_at})
            assert session.train()
            session = open_run(Path(folder), report=silent)
        assert session.train()
        return dict(session.state.model.named_parameters())

    whole = trained("whole", micro_batch=4, stop_at=None)
    resumed = trained("resumed", micro_batch=4, stop_at=6)  # token 1,536: inside the blend
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    other = trained("other", micro_batch=2, stop_at=5)
    for name in whole:
        torch.testing.assert_close(whole[name], other[name], rtol=1e-4, atol=1e-6)
    batches = [
        [r["drawn"] for r in read_json_lines(Path(run, "metrics.jsonl")) if "loss" in r]
        for run in ("whole", "resumed", "other")
    ]
    assert batches[0] == batches[1] == batches[2]


def test_changing_the_stages_of_a_run_must_be_on_purpose_and_is_recorded(together: Path) -> None:
    new_run(staged(together), Path("run"), report=silent).train()
    later = STAGE.replace("1_300", "3_500").replace("\n", ", ").removeprefix("[[data.stage]], ")
    session = open_run(
        Path("run"), ["train.steps=16", f"data.stage=[{{{later.rstrip(', ')}}}]"], report=silent
    )
    session.train()
    events = list(read_json_lines(session.paths.events))
    assert {"recipe_changed", "data_changed"} <= {e["event"] for e in events}
    # The new shares put the run further back in what the stage had begun (R03).
    (consumed,) = [e for e in events if e["event"] == "consumed_data"]
    assert 'through "signs"' in consumed["message"]
    assert '"digits"' not in consumed["message"]


def test_a_stage_that_is_added_behind_reads_nothing_twice(together: Path) -> None:
    new_run(staged(together), Path("run"), report=silent).train()
    first = "{from_tokens = 1_300, weights = {digits = 0, signs = 1}}"
    added = "{from_tokens = 3_500, weights = {digits = 1, signs = 1}}"
    changes = ["train.steps=16", f"data.stage=[{first}, {added}]"]
    session = open_run(Path("run"), changes, report=silent)
    session.lock.release()
    events = {e["event"] for e in read_json_lines(session.paths.events)}
    assert "data_changed" in events
    assert "consumed_data" not in events


def test_a_source_that_would_run_out_is_refused_before_the_run_and_at_resume(
    together: Path,
) -> None:
    has = load_manifest(together).total("tokens", "train", "signs")
    limited = staged(together, limit="max_epochs = 1")
    assert has > 12 * 256 - 650, "it lasts for the recipe's twelve steps"
    plan = make_plan(limited).mixture
    assert plan is not None
    assert plan.refusals == []
    assert plan.sources[1].available == has
    assert plan.sources[1].epochs == pytest.approx((12 * 256 - 650) / (-(-has // 32) * 32))
    new_run(limited, Path("run"), report=silent).train()
    with pytest.raises(UserError, match=r'source "signs" has .* its max_epochs is 1'):
        open_run(Path("run"), ["train.steps=500"], report=silent)
    longer = limited.train.model_copy(update={"steps": 500})
    with pytest.raises(UserError, match=r'source "signs"') as refused:
        new_run(limited.model_copy(update={"train": longer}), Path("new"), report=silent)
    assert not Path("new").exists()
    assert (
        str(refused.value)
        == make_plan(limited.model_copy(update={"train": longer})).mixture.refusals[0]
    )


def test_a_source_that_comes_later_leaves_the_order_of_the_first_as_it_was(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As docs/how-to/change-the-data.md says of a run on one text that goes on with two."""
    monkeypatch.chdir(tmp_path)
    head = HEAD.format(vocabulary="", tokenizer="bytes")
    sources = [f'{{name="{name}", path="{texts / name}"}}' for name in ("letters", "digits")]
    sources[1] = sources[1].replace("}", ", weight=0}")
    two = [f"data.source=[{', '.join(sources)}]"]
    two += ["data.stage=[{from_tokens=1280, weights={letters=1, digits=1}, blend_tokens=640}]"]
    one = parse_recipe(head, name="one", overrides=[f"data.path={texts / 'letters'}"])
    both = parse_recipe(head, name="both", overrides=two)
    first, second = (
        open_data(recipe.data, recipe.model, 64, silent).training for recipe in (one, both)
    )
    assert torch.equal(first.batch(0, 40).ids, second.batch(0, 40).ids)  # 40 windows of 32
    assert not torch.equal(first.batch(0, 80).ids, second.batch(0, 80).ids)
