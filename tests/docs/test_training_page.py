"""The tables of docs/training.md name the keys there are, and their defaults."""

import re
import tomllib

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typed_commands import ROOT, blocks

from fromscratch.optim.config import OptimConfig
from fromscratch.optim.schedule_config import (
    MomentumConfig,
    PhaseConfig,
    ScheduleConfig,
    WeightDecayConfig,
)
from fromscratch.report.schedule_picture import blocks as picture
from fromscratch.runs.recipe import TrainConfig
from fromscratch.runs.recipe_files import parse_recipe
from fromscratch.runs.schedule_plan import plan_schedule

PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def told(begin: str, end: str) -> dict[str, str]:
    """Keys in the first column of the tables between two places, with the second column."""
    part = PAGE[PAGE.index(begin) : PAGE.index(end, PAGE.index(begin))]
    rows = re.findall(r"^\| (`[^|]+`) \| ?([^|]*)\|", part, re.MULTILINE)
    return {
        key: default.strip()
        for keys, default in rows
        for key in re.findall(r"`(\w+)`", keys)
        if keys != "`name`" or default.strip() != "after the warmup"
    }


@pytest.mark.parametrize(
    ("table", "begin", "end", "all_of_it"),
    [
        (OptimConfig, "`[optim]`:", "Which to take", False),
        (ScheduleConfig, "`[schedule]` says", "| `name` | after the warmup", True),
        (WeightDecayConfig, "`[schedule.weight_decay]`, of", "`[schedule.momentum]`, of", True),
        (MomentumConfig, "`[schedule.momentum]`, of", "The schedules of nanochat", True),
        (TrainConfig, "| `tokens_per_step`", "Steps are numbered", False),
    ],
)
def test_keys_and_defaults(table: type[BaseModel], begin: str, end: str, all_of_it: bool):
    found = told(begin, end)
    assert len(found) >= 2
    assert set(found) <= set(table.model_fields)
    if all_of_it:
        assert set(found) == set(table.model_fields)
    for key, said in found.items():
        default = table.model_fields[key].default
        if default is PydanticUndefined or default in (None, []) or said == "constant":
            assert said in ("none", "constant"), key
        else:
            value = tomllib.loads(f"x = {said.strip('`')}")["x"]
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_the_keys_of_a_phase():
    assert set(told("| `from_step` |", "The shape of `[schedule]`")) == set(
        PhaseConfig.model_fields
    )


def test_what_plan_prints_of_the_page_s_recipe():
    (recipe,) = blocks("docs/training.md", "toml")
    plan = plan_schedule(parse_recipe(recipe.text, name="two-phases"), 150)
    lines = {"schedule": picture([p.lr for p in plan.curve], ascii_only=False)} | plan.words
    margin = max(map(len, lines))
    printed = "".join(f"{name.ljust(margin)}  {words}\n" for name, words in lines.items())
    assert blocks("docs/training.md", "text")[0].text == printed
