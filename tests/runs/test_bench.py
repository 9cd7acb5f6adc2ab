"""What `bench` does when it is interrupted, and when it must not begin."""

from pathlib import Path

import pytest

from fromscratch.foundation.errors import UserError
from fromscratch.runs.bench import BenchResult, bench
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.chdir(tmp_path)
    return load_recipe(
        "try",
        [
            "model.vocab_size=300", "model.d_model=32", "model.n_head=2", "model.d_ff=64",
            "model.context=32", "train.tokens_per_step=256", "train.micro_batch=2",
            "train.device=cpu",
        ],
    )  # fmt: skip


def test_ctrl_c_gives_the_rows_so_far(recipe: Recipe):
    announced: list[str] = []

    def watch(result: BenchResult, doing: str) -> None:
        announced.append(doing)
        if result.trials:
            raise KeyboardInterrupt

    result = bench(recipe, precisions=["fp32"], micro_batches=[], watch=watch)
    assert announced == ["fp32, micro-batch 1", "fp32, micro-batch 2"]
    assert not result.finished
    assert [t.micro_batch for t in result.trials] == [1]
    assert result.best() is result.trials[0]
    assert not list(Path().iterdir()), "nothing is left"


def test_a_recipe_that_cannot_be_run_is_not_measured(recipe: Recipe):
    with pytest.raises(UserError, match='Did you mean "bf16"'):
        bench(recipe, precisions=["bf1"], micro_batches=[], watch=lambda *_: None)
    with pytest.raises(UserError, match="Valid: 1, 2, 4, 8"):
        bench(recipe, precisions=["fp32"], micro_batches=[5], watch=lambda *_: None)
