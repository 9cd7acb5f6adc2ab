"""The loss around a model's weights against copies that are moved and evaluated one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.data.batches import ValidationSet, Windows
from fromscratch.data.shards import TokenStream
from fromscratch.evaluate.landscape import Surroundings, compute_points, direction, mean_loss
from fromscratch.evaluate.landscape_points import (
    LandscapeSettings,
    PointsFile,
    read_landscapes,
)
from fromscratch.evaluate.loss import evaluate_loss
from fromscratch.foundation.errors import Interrupted
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

CONTEXT, VOCABULARY = 16, 40
SETTINGS = LandscapeSettings(
    model="ab" * 32, step=7, data="cd", targets=64, context=CONTEXT, seed=3, points=5, reach=0.8
)


def model(family: str = "gpt2", **options: object) -> GPT:
    config = ModelConfig(
        family=family,  # type: ignore[arg-type]
        n_layer=2,
        n_head=2,
        d_model=16,
        context=CONTEXT,
        vocab_size=VOCABULARY,
        padded_vocab=48,
        init="normal",
        init_std=0.2,
        **options,  # type: ignore[arg-type]
    )
    return GPT(config, seed=2)


@pytest.fixture(scope="module")
def sets(stream_of: Callable[[Sequence[Sequence[int]]], TokenStream]) -> list[ValidationSet]:
    """Two sets of 40 and 24 tokens; the windows of both end in the middle of one."""
    draw = np.random.default_rng(0)
    lengths = np.ones(VOCABULARY, dtype=np.int64)
    return [
        ValidationSet(
            name,
            Windows(stream_of([draw.integers(0, VOCABULARY, n).tolist()]), CONTEXT),
            lengths,
            0,
        )
        for name, n in (("one", 40), ("two", 24))
    ]


def weights(gpt: GPT) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in gpt.state_dict().items()}


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_a_direction_has_the_norms_of_the_weights_rows(family):
    gpt = model(family)
    with torch.no_grad():
        next(p for p in gpt.parameters() if p.dim() == 2)[5] = 0  # a row that was never trained
    one, other = (direction(gpt, seed=3, axis=axis) for axis in (0, 1))
    matrices = {name: p for name, p in gpt.named_parameters() if p.dim() >= 2}
    assert one.keys() == other.keys() == matrices.keys()
    assert len(matrices) < len(dict(gpt.named_parameters())), "norms and biases stay"
    for name, matrix in matrices.items():
        rows = matrix.detach().norm(dim=1)
        torch.testing.assert_close(one[name].norm(dim=1), rows)
        # Neither each other nor the weights: random directions of many dimensions are at right
        # angles but for chance.
        for a, b in ((one[name], other[name]), (one[name], matrix.detach())):
            assert abs(float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))) < 0.35
        assert torch.equal(direction(gpt, seed=3, axis=0)[name], one[name])
        assert not torch.equal(direction(gpt, seed=4, axis=0)[name], one[name])


def test_the_middle_is_the_models_own_loss_and_the_weights_come_back(sets):
    gpt = model("modern").train()
    before = weights(gpt)
    own = [evaluate_loss(gpt, data, batch_size=3) for data in sets]
    around = Surroundings(gpt, seed=1)
    with around.at(0.0, 0.0):
        here = mean_loss(gpt, sets, batch_size=3).loss
    assert here == pytest.approx(sum(t.nats for t in own) / 64, abs=1e-6)
    with around.at(0.4, -1.3):
        assert any(not torch.equal(before[n], t) for n, t in gpt.state_dict().items())
    with pytest.raises(ZeroDivisionError), around.at(1.0, 1.0):
        raise ZeroDivisionError
    assert all(torch.equal(before[name], tensor) for name, tensor in gpt.state_dict().items())
    assert gpt.training


def test_a_whole_landscape_equals_a_loop_over_moved_copies(sets, tmp_path):
    gpt = model(tie_embeddings=True)
    file = PointsFile(tmp_path, SETTINGS)
    told: list[int] = []
    compute_points(gpt, sets, file, batch_size=2, on_point=told.append)
    assert told == list(range(1, 26))
    (found,) = read_landscapes(tmp_path)
    assert found.settings == SETTINGS
    assert found.is_whole
    one, other = (direction(gpt, seed=3, axis=axis) for axis in (0, 1))
    axis = [-0.8, -0.4, 0.0, 0.4, 0.8]
    for place, loss in enumerate(found.losses):
        moved = copy.deepcopy(gpt)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                if name in one:
                    parameter += axis[place % 5] * one[name] + axis[place // 5] * other[name]
        every = [evaluate_loss(moved, data, batch_size=64) for data in sets]
        assert loss == pytest.approx(sum(t.nats for t in every) / 64, abs=1e-5)
    assert found.centre == pytest.approx(mean_loss(gpt, sets, batch_size=64).loss, abs=1e-6)


def test_interrupted_and_gone_on_with_gives_the_same_file(sets, tmp_path):
    gpt = model()
    whole = PointsFile(tmp_path / "whole", SETTINGS)
    compute_points(gpt, sets, whole, batch_size=2)
    parts = PointsFile(tmp_path / "parts", SETTINGS)
    asked = 0

    def impatient() -> bool:
        nonlocal asked
        asked += 1
        return asked % 40 == 0

    interruptions = 0
    while parts.done < 25:
        try:
            compute_points(gpt, sets, parts, batch_size=2, should_stop=impatient)
        except Interrupted:
            interruptions += 1
            parts = PointsFile(tmp_path / "parts", SETTINGS)
    assert interruptions > 1
    assert parts.path.name == whole.path.name
    assert parts.path.read_bytes() == whole.path.read_bytes()


@settings(max_examples=15)
@given(cut=st.integers(0, 2000), junk=st.sampled_from([b"", b"\x00\xff", b'{"x": 9}\n', b"\n\n"]))
def test_a_file_cut_anywhere_goes_on_from_its_last_good_line(tmp_path_factory, cut, junk):
    folder = tmp_path_factory.mktemp("cut")
    whole = PointsFile(folder / "whole", SETTINGS)
    for number, point in enumerate(SETTINGS.grid()):
        whole.append(point, number / 7 if number != 3 else float("inf"))
    content = whole.path.read_bytes()
    place = PointsFile(folder / "cut", SETTINGS).path
    place.write_bytes(content[:cut] + junk)
    again = PointsFile(folder / "cut", SETTINGS)
    assert content.startswith(place.read_bytes())
    whole_lines = content[:cut].count(b"\n") - 1
    assert again.done >= min(25, max(0, whole_lines))
    for number, point in list(enumerate(SETTINGS.grid()))[again.done :]:
        again.append(point, number / 7 if number != 3 else float("inf"))
    assert place.read_bytes() == content


def test_other_weights_text_or_grid_are_another_file(tmp_path):
    changed = [
        {"model": "00"}, {"data": "00"}, {"seed": 4}, {"points": 7}, {"reach": 0.5}, {"targets": 8}
    ]  # fmt: skip
    keys = {LandscapeSettings(**(SETTINGS.__dict__ | change)).key for change in changed}
    assert len(keys | {SETTINGS.key}) == len(changed) + 1


def test_the_latest_whole_landscape_is_the_one_that_is_read(tmp_path: Path):
    for step, points, whole in ((7, 3, True), (9, 3, True), (11, 3, False)):
        file = PointsFile(
            tmp_path, LandscapeSettings(**(SETTINGS.__dict__ | {"step": step, "points": points}))
        )
        for point in list(file.settings.grid())[: None if whole else 4]:
            file.append(point, 1.0)
    (tmp_path / "0123456789abcdef.jsonl").write_bytes(b"not of ours\n")
    found = read_landscapes(tmp_path)
    assert [p.settings.step for p in found] == [11, 7, 9]
    assert [len(p.losses) for p in found] == [4, 9, 9]
