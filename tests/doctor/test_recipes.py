"""The doctor on recipes: the five systems as their authors ran them, and each check by itself."""

import re
from pathlib import Path

import pytest

from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.sources import Source
from fromscratch.doctor.checks import Examined, before_the_run, examine_recipe
from fromscratch.doctor.recipe_checks import Machine
from fromscratch.foundation.errors import UserError
from fromscratch.runs.recipe_files import load_recipe, shipped_recipes

AS_RUN = Path(__file__).parents[2] / "docs" / "as-run"


def examined(recipe: str | Path, *overrides: str, machine: Machine | None = None) -> Examined:
    return examine_recipe(load_recipe(str(recipe), overrides), machine=machine)


def said(found: Examined) -> str:
    return "\n".join(f"{f.id} {f.severity}: {f.what} -> {f.fix}" for f in found.findings)


# --- what the five authors regretted --------------------------------------------------------------

SYSTEMS = {
    "rangeflow": (
        AS_RUN / "rangeflow.toml",
        [],
        {
            "R04 refused: data.val_fraction = 0",
            'R01 warned: at 1,935,360,000 tokens the share of "c4" goes from 100% to 0% at once',
            'R49 refused: "alpaca" would be written with role strings that are no tokens',
        },
    ),
    "minigpt": (
        "minigpt-124m",
        [],
        {"R15 warned: few tokens for the size: 499.6M tokens for 124.5M parameters, 4.0 a"},
    ),
    "transformer room": (
        "transformer-room-3m",
        [],
        {
            'R15 warned: the text of "tiny_shakespeare.txt" is gone through 40.0 times',
            "R30 warned: the learning rate never decays (it ends at 0.001)",
            "R30 warned: gradients are not clipped (optim.clip = 0)",
            "R30 warned: optim.betas = [0.9, 0.999] are a library's defaults",
        },
    ),
    "RTX 3090": (
        "rtx3090-163m",
        [],
        {
            "R30 warned: the learning rate never decays (it ends at 0.0004)",
            "R30 warned: gradients are not clipped (optim.clip = 0)",
            "R30 warned: model.dropout = 0.1 in a run that reads no text twice (0.33 epochs)",
            "R30 warned: optim.betas = [0.9, 0.999] are a library's defaults",
        },
    ),
    "fgpt before its second phase": (
        "fgpt-662m",
        ["train.phase=[]"],
        {"R30 warned: the learning rate never decays (it ends at 0.0003)"},
    ),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_names_what_the_authors_regretted_and_nothing_else(system: str) -> None:
    recipe, overrides, expected = SYSTEMS[system]
    lines = said(examined(recipe, *overrides)).split("\n")
    for begin in expected:
        assert any(line.startswith(begin) for line in lines), (begin, lines)
    assert len(lines) == len(expected)


def test_six_heads_of_the_transformer_room_are_refused_with_the_counts_that_divide() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("transformer-room-3m", ["model.n_head=6"])
    assert caught.value.regret == "R18"
    assert "1, 2, 4, 8" in str(caught.value)


def test_our_own_default_has_nothing_to_regret() -> None:
    assert examined("modern-124m", machine=Machine(10**12, 10**12)).findings == []


def test_every_shipped_recipe_can_be_looked_at() -> None:
    for name in shipped_recipes(with_model=True):
        assert len(examined(name).checked) > 8, name


# --- each check -----------------------------------------------------------------------------------

GOOD = "modern-124m"
BAD: dict[str, tuple[list[str], str]] = {
    "many tokens": (["train.tokens=2e10"], "R15 warned: many tokens for the size: 20B"),
    "an unscaled fp16": (
        ["train.precision=fp16", "train.loss_scale.initial=1"],
        "R22 warned: train.loss_scale.initial = 1 hardly scales",
    ),
    "seldom saved": (
        ["checkpoint.every_minutes=0", "checkpoint.every=2500"],
        "R42 warned: a kill costs up to 2,500 of 4,960 steps (50%)",
    ),
    "no samples": (["sample.every=0"], "R47 warned: no text is sampled before the end"),
    "no prompts": (["sample.prompts=[]"], "R47 warned: no text is sampled"),
    "no clipping": (["optim.clip=0"], "R30 warned: gradients are not clipped"),
    "roles as text": (
        ["data.render=chatml"],
        'R49 refused: "hf:HuggingFaceFW/fineweb-edu:sample-10BT" would be written with role',
    ),
    "nothing held out": (["data.val_fraction=0"], "R04 refused: data.val_fraction = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_is_found_alone(case: str) -> None:
    overrides, expected = BAD[case]
    found = examined(GOOD, *overrides)
    assert len(found.findings) == 1, said(found)
    assert said(found).startswith(expected)
    assert found.refused == (found.findings[0].severity == "refused")


@pytest.mark.parametrize("case", [*BAD, "rtx3090-163m", "transformer-room-3m", "minigpt-124m"])
def test_doing_what_it_says_ends_the_finding(case: str) -> None:
    """Every fix that is an override is tried: what it says must be right."""
    recipe, overrides = (GOOD, BAD[case][0]) if case in BAD else (case, [])
    found = examined(recipe, *overrides).findings
    for finding in found:
        spelled = re.search(r"write ((?:\w+\.)+\w+=\S+?),?(?: |$)", finding.fix)
        if not spelled:
            continue
        mended = examined(recipe, *overrides, spelled[1])
        assert finding.what not in [f.what for f in mended.findings], finding


def test_the_machine_is_looked_at_where_one_is_given() -> None:
    small = examined(GOOD, machine=Machine(10**9, 10**9, "a laptop"))
    assert [(f.id, f.severity) for f in small.findings] == [("R35", "refused"), ("R39", "warned")]
    assert "the disk has 1.0 GB free" in small.findings[0].what
    assert "here 1.0 GB are free (a laptop)" in small.findings[1].what
    assert not examined(GOOD, machine=Machine(10**12, None)).findings


def test_text_that_is_read_ten_times(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Paragraph {i} says so and so." for i in range(400)))
    options = PrepareOptions(tokenizer="bytes", documents="paragraph", val_fraction=0.1)
    data = prepare([Source("text", str(text))], tmp_path / "data", options).folder
    small = [
        f"data.path={data}", "data.tokenizer=bytes", "model.vocab_size=257", "model.n_layer=2",
        "model.n_head=2", "model.d_model=32", "model.d_ff=64", "model.context=64",
        "model.padded_vocab=257", "train.tokens_per_step=512", "schedule.warmup_steps=5",
        "train.micro_batch=8",
    ]  # fmt: skip
    (finding,) = (
        f for f in examined(GOOD, *small, "train.epochs=10").findings if "times" in f.what
    )
    assert finding.id == "R15"
    assert re.search(r"is gone through (9\.9|10\.\d) times", finding.what)
    none = PrepareOptions(tokenizer="bytes", documents="paragraph", val_fraction=0.0,
                          allow_no_validation=True)  # fmt: skip
    everything = prepare([Source("text", str(text))], tmp_path / "all", none).folder
    small[0] = f"data.path={everything}"
    found = examined(GOOD, *small, "train.epochs=1").findings
    assert [f.severity for f in found if f.id == "R04"] == ["warned"]


def test_the_short_form_leaves_out_what_the_run_says_itself() -> None:
    recipe = load_recipe("rtx3090-163m", ["data.val_fraction=0"])
    lines = before_the_run(recipe, 1000)
    assert all(line.endswith(("(R30)", "(R15)")) for line in lines)
    assert any("gradients are not clipped" in line and "optim.clip=1" in line for line in lines)
