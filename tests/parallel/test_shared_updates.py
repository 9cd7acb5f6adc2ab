"""Two ranks, by DDP and by FSDP2, make the updates that one makes alone."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from launching import forked
from small import (
    POISONED,
    WAYS,
    evaluated,
    model_of,
    train_small,
)

from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.share import SharedModel
from tests.forking.forks import Forks


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("together")
    for rank in range(2):
        (folder / str(rank)).mkdir()
    program = Path(__file__).with_name("small.py")
    for ended in forked(forks, folder, cwd=folder, before=program):
        assert ended.code == 0, ended.err
        assert "Warning" not in ended.out + ended.err
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_they_agree(answers: list[dict[str, Any]]):
    for answer in answers:
        assert answer["sum"] == [3.0, 1.0]
        assert answer["any"] == [True, False]
        assert answer["from_main"] == {"rank": 0}
        assert answer["interrupted_after"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_updates_are_those_of_one_alone(answers: list[dict[str, Any]], way: tuple[str, str, str]):
    mode, optimizer, family = way
    alone = train_small(Ranks(), SharedModel(model_of(family)), optimizer)
    together = [answer[f"{mode} {optimizer}"] for answer in answers]
    for key in ("outcomes", "weights"):
        assert json.dumps(together[0][key]) == json.dumps(together[1][key]), "ranks drift apart"
    for step, (here, there) in enumerate(
        zip(alone["outcomes"], together[0]["outcomes"], strict=True)
    ):
        assert there["n_targets"] == here["n_targets"]
        assert there["applied"] is here["applied"] is (step != POISONED)
        if step == POISONED:
            assert math.isnan(there["loss"])
        else:
            assert there["loss"] == pytest.approx(here["loss"], rel=1e-6)
            assert there["grad_norm"] == pytest.approx(here["grad_norm"], rel=1e-5)
    for name, values in alone["weights"].items():
        assert together[0]["weights"][name] == pytest.approx(values, rel=1e-4, abs=2e-6), name


@pytest.mark.slow
def test_sharded_parameters_lie_on_one_rank_each(answers: list[dict[str, Any]]):
    for mode, optimizer, family in WAYS:
        total = sum(p.numel() for p in model_of(family).parameters())
        held = [answer[f"{mode} {optimizer}"]["held"] for answer in answers]
        if mode == "fsdp":
            assert sum(held) == total
            assert max(held) < 0.6 * total
        else:
            assert held == [total, total]


@pytest.mark.slow
def test_validation_is_that_of_one_alone(answers: list[dict[str, Any]], tmp_path: Path):
    nats, n_targets, n_bytes = evaluated(Ranks(), tmp_path)
    for answer in answers:
        assert answer["evaluated"][0] == pytest.approx(nats, rel=1e-9)
        assert answer["evaluated"][1:] == [n_targets, n_bytes]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_the_same_number_of_ranks_resumes_bit_for_bit(answers: list[dict[str, Any]], mode: str):
    for answer in answers:
        first, again = answer[f"again {mode}"]
        assert len(first) == 8 + 3 + 2
        assert first == again
