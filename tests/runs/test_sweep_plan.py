"""What a sweep is to try, and that its trials compare; how trials are given out."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import trial_lock_file
from fromscratch.runs.sweep_plan import Choices, Range, plan_from_json, plan_sweep
from fromscratch.runs.sweep_results import edges
from fromscratch.runs.sweep_study import TrialResult, open_sweep


def test_a_grid_is_every_combination_once():
    plan = plan_sweep("try", ["optim.lr=1e-3,3e-3", "train.steps=9", "model.n_layer=1,2,3"])
    assert plan.trials == 6
    tried = [(v["optim.lr"], v["model.n_layer"]) for v in plan.combinations()]
    assert tried == [(lr, n) for lr in ("1e-3", "3e-3") for n in "123"]
    recipe = plan.recipe({"optim.lr": "3e-3", "model.n_layer": "2"})
    assert (recipe.optim.lr, recipe.model.n_layer, recipe.train.steps) == (3e-3, 2, 9)
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_commas_in_brackets_and_quotes_part_nothing():
    words = ["optim.betas=[0.9, 0.95],[0.9, 0.99]", "sample.prompts=[\"a, b\", 'c']"]
    plan = plan_sweep("try", words)
    assert plan.axes == {"optim.betas": Choices(("[0.9, 0.95]", "[0.9, 0.99]"))}
    recipe = plan.recipe({"optim.betas": "[0.9, 0.99]"})
    assert recipe.optim.betas == (0.9, 0.99)
    assert recipe.sample.prompts == ["a, b", "c"]


def test_ranges():
    words = ["schedule.min_lr=0", "optim.lr=1e-4:1e-2:log", "model.n_layer=1:4"]
    words.append("data.tokenizer=bpe:4096:line")
    plan = plan_sweep("try", words, sampler="tpe", trials=3)
    assert plan.axes["optim.lr"] == Range(1e-4, 1e-2, log=True, whole=False)
    assert plan.axes["model.n_layer"] == Range(1, 4, log=False, whole=True)
    assert plan.fixed == ("schedule.min_lr=0", "data.tokenizer=bpe:4096:line")


@given(st.sampled_from([64, 128, 256]), st.integers(1, 48))
def test_the_micro_batch_follows_the_step_and_never_takes_more_memory(context: int, windows: int):
    words = [f"model.context={context},32", f"train.tokens_per_step={context * windows},24576"]
    plan = plan_sweep("try", [*words, "train.tokens=30000", "eval.tokens=0"])
    values = {"model.context": str(context), "train.tokens_per_step": str(context * windows)}
    micro_batch = plan.recipe(values).train.micro_batch
    limit = 12 * 128 // context  # as many tokens as the recipe `try` has
    assert micro_batch == max(n for n in range(1, limit + 1) if windows % n == 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.tokens_per_step=768,1536"], r"train on more text.*train.tokens=1843200|921600"),
        (["model.context=64,128"], "different parts of the held-out"),
        (["data.seed=1,2"], "hold out different text"),
    ],
)
def test_what_does_not_compare_is_refused(words: list[str], said: str):
    with pytest.raises(UserError, match=said):
        plan_sweep("try", words)


def result(bits: float) -> TrialResult:
    return TrialResult(bits, bits, 1.0, 100, 10, 1.0, 100.0)


@pytest.mark.parametrize("sampler", ["grid", "tpe", "random"])
def test_trials_are_given_out_once_and_what_was_left_behind_comes_first(
    sampler: str, tmp_path: Path
):
    words = ["optim.lr=1e-3,1e-2,1e-1,1"]
    if sampler != "grid":
        words = ["optim.lr=1e-3:1e-1:log"]
    plan = plan_sweep("try", words, sampler=sampler, trials=4)
    assert plan.trials == 4
    one, two = (open_sweep(tmp_path / "sweep", plan) for _ in range(2))
    with one.next_trial() as first, two.next_trial() as second:
        assert first is not None
        assert second is not None
        assert first.number != second.number
        assert [row.state for row in one.rows()].count("running") == 2
        two.finish(second.number, result(2.0))
    # The first was let go of without a result: as after a kill.
    assert "stopped" in [row.state for row in two.rows()]
    taken = []
    while True:
        with two.next_trial() as claim:
            if claim is None:
                break
            taken.append(claim)
            two.finish(claim.number, result(1.0 + claim.number))
    assert taken[0] == first
    assert sorted([second.number, *(claim.number for claim in taken)]) == [0, 1, 2, 3]
    rows = one.rows()
    assert [row.state for row in rows] == ["done"] * 4
    assert len({row.values["optim.lr"] for row in rows}) == 4
    assert [row.result.val_bpb for row in rows] == sorted(row.result.val_bpb for row in rows)


def test_draws_depend_on_the_results_alone(tmp_path: Path):
    plan = plan_sweep("try", ["optim.lr=1e-3:1e-1:log"], sampler="tpe", trials=14)
    drawn = []
    for name in ("a", "b"):
        study = open_sweep(tmp_path / name, plan)
        for _ in range(14):
            with study.next_trial() as claim:
                assert claim is not None
                distance = abs(float(claim.values["optim.lr"]) - 0.01)
                study.finish(claim.number, result(1 + distance))
        drawn.append([row.values["optim.lr"] for row in study.rows()])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 14


def test_a_best_value_at_the_edge_is_told(tmp_path: Path):
    plan = plan_sweep("try", ["optim.lr=1e-2,1e-3,1e-1", "model.n_layer=1,2"])
    study = open_sweep(tmp_path, plan)
    for _ in range(plan.trials):
        with study.next_trial() as claim:
            assert claim is not None
            lr, layers = (float(claim.values[key]) for key in plan.axes)
            study.finish(claim.number, result(2 - lr - layers / 10))
    assert edges(plan, study.rows()) == [("optim.lr", "1e-1", "largest")]


def test_a_sweep_is_joined_by_its_own_command_only(tmp_path: Path):
    open_sweep(tmp_path / "s", plan_sweep("try", ["optim.lr=1e-3,1e-2"]))
    open_sweep(tmp_path / "s", plan_sweep("try", ["optim.lr=1e-3,1e-2"]))
    with pytest.raises(UserError, match="tries something else"):
        open_sweep(tmp_path / "s", plan_sweep("try", ["optim.lr=1e-3,2e-2"]))
    assert not (tmp_path / "s" / trial_lock_file(0)).exists()
