"""The rules of the diagnosis, on curves made for the purpose and on a real run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.schedules import PhasedSchedule, Schedule, Takeover
from fromscratch.report.diagnosis.diagnose import MOST, diagnose
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.rate_changes import rate_changes
from fromscratch.report.facts import gather
from fromscratch.report.record import Event, FloatArray, RunRecord, Table

Columns = Mapping[str, FloatArray]
N = 1500
STEPS = np.arange(1.0, N + 1)


def record_of(
    steps: FloatArray,
    columns: Columns,
    *,
    validation: Mapping[str, Table] | None = None,
    events: Sequence[tuple[str, int | None, Mapping[str, Any]]] = (),
    recipe: Mapping[str, Any] | None = None,
    health: Mapping[str, Table] | None = None,
) -> RunRecord:
    happened = (("started", 0, {}), *events, ("finished", int(steps[-1]), {}))
    return RunRecord(
        name="made",
        recipe_text=None,
        recipe=recipe or {},
        training=Table(steps, columns),
        validation=validation or {},
        samples=(),
        events=tuple(Event(kind, "", step, "", extra) for kind, step, extra in happened),
        yardsticks=(),
        problems=(),
        health=health or {},
    )


def findings(steps: FloatArray, columns: Columns, **more: Any) -> dict[str, Finding]:
    record = record_of(steps, columns, **more)
    found = diagnose(record, gather(record))
    assert len(found) <= MOST
    assert [f.level for f in found] == sorted(f.level for f in found)
    return {f.rule: f for f in found}


def troubles(found: Mapping[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.level <= Level.ALARM}


def falling(
    steps: FloatArray, *, noise: float = 0.1, seed: int = 0, tail: float = 0.0, wander: float = 0.0
) -> FloatArray:
    """A power law to 3 nats with noise: normal, with heavy tails, or straying for a while."""
    draw = np.random.default_rng(seed)
    n = len(steps)
    rough = draw.normal(size=n) * (1 - tail) + draw.standard_t(3, size=n) * tail
    slow = np.zeros(n)
    for i in range(1, n):
        slow[i] = 0.9 * slow[i - 1] + 0.4 * wander * draw.normal()
    curve = 3 + 7 * (1 + 300 * steps / steps[-1]) ** -0.6
    return np.asarray(curve + noise * rough + noise * slow)


def quiet(steps: FloatArray) -> FloatArray:
    return falling(steps, noise=0.0)


def lr_of(steps: FloatArray, schedule: Schedule | PhasedSchedule, peak: float = 6e-4) -> FloatArray:
    return np.array([peak * schedule.at(int(step)) for step in steps])


def held_out(losses: Callable[[FloatArray], FloatArray], *, noise: float = 0.0) -> Table:
    at = np.arange(0.0, N + 1, N // 20)
    stray = noise * np.random.default_rng(3).normal(size=len(at))
    return Table(at, {"val_loss": losses(np.maximum(at, 1.0)) + stray})


# --- what is healthy gives no alarm ---------------------------------------------------------------


@settings(max_examples=60)
@given(
    n=st.integers(12, 4000),
    every=st.integers(1, 50),
    seed=st.integers(0, 10**6),
    noise=st.floats(0.0, 0.3),
    tail=st.floats(0.0, 0.7),
    wander=st.floats(0.0, 0.7),
    shape=st.sampled_from(["cosine", "wsd", "linear", "constant"]),
    warmup=st.floats(0.0, 0.3),
    decay=st.floats(0.05, 0.8),
    floor=st.sampled_from([0.0, 0.1]),
    digits=st.sampled_from([3, 17]),
)
def test_a_healthy_run_raises_no_alarm(
    n, every, seed, noise, tail, wander, shape, warmup, decay, floor, digits
):
    steps = np.arange(1.0, n + 1) * every
    last = int(steps[-1])
    schedule = Schedule(shape, last, int(warmup * last), decay, floor)
    rate = np.array([float(f"{value:.{digits}g}") for value in lr_of(steps, schedule)])
    loss = falling(steps, noise=noise, seed=seed, tail=tail, wander=wander)
    norm = np.exp(0.2 * np.random.default_rng(seed).normal(size=n)) + 5 / np.arange(1, n + 1)
    found = findings(steps, {"loss": loss, "lr": rate, "grad_norm": norm})
    assert not troubles(found), [f.text for f in found.values()]


# --- each rule: what has it, and what has not ---------------------------------------------------


def test_a_switch_of_the_text_is_found_where_it_is():
    loss = falling(STEPS, noise=0.15)
    for at, by in ((900, -0.6), (700, 0.8)):
        found = findings(STEPS, {"loss": loss + by * (at <= STEPS)})
        assert abs((found["data_switch"].step or 0) - at) <= 5
        levels = [float(x) for x in re.findall(r"(?:from|to) (\d\.\d+)", found["data_switch"].text)]
        assert levels[1] - levels[0] == pytest.approx(by, abs=0.1)
    # Where a text begins again, a drop is memory and no other text; a rise there is.
    epochs = STEPS / 450
    dropped = loss - 0.6 * (STEPS > 900)
    found = findings(STEPS, {"loss": dropped, "epochs/poems": epochs})
    assert troubles(found) == {"by_heart"}
    assert '"poems" begins again' in found["by_heart"].text
    assert "data_switch" in findings(STEPS, {"loss": dropped, "epochs/poems": epochs * 0.9})
    risen = loss + 0.6 * (STEPS > 900)
    assert "data_switch" in findings(STEPS, {"loss": risen, "epochs/poems": epochs})
    often = {"loss": dropped, "epochs/poems": STEPS}
    assert "data_switch" in findings(STEPS, often), "it begins again at every step"
    # Reached along a line over a third of the run it is no switch.
    blended = loss - 0.6 * np.clip((STEPS - 600) / 500, 0, 1)
    assert "data_switch" not in findings(STEPS, {"loss": blended})


def test_a_planned_stage_that_shows_is_no_alarm():
    loss = falling(STEPS, noise=0.1) + 0.8 * (STEPS > 750)
    data = {"stage": [{"from_tokens": 75_000, "weights": {}}]}
    recipe = {"data": data, "train": {"tokens_per_step": 100}}
    found = findings(STEPS, {"loss": loss}, recipe=recipe)
    assert found["stage"].level is Level.REMARK
    assert found["stage"].chart == "mixture"
    assert not troubles(found)
    elsewhere = {"data": {"stage": [{"from_tokens": 20_000}]}, "train": recipe["train"]}
    assert "data_switch" in findings(STEPS, {"loss": loss}, recipe=elsewhere)


COSINE = Schedule("cosine", N, 100)


@pytest.mark.parametrize(
    ("change", "at", "text"),
    [
        (lambda r: np.where(STEPS > 1200, 0.8 * r, r), 1201, "drops at once"),
        (lambda r: np.where(STEPS > 1200, 1.3 * r, r), 1201, "rises at once"),
        (lambda r: np.where(STEPS > 800, lr_of(STEPS % 800 + 1, COSINE), r), 801, "at once"),
        # From the value in force, along another line: nothing jumps.
        (lambda r: np.where(STEPS > 800, r[800] * (2300 - STEPS) / 1500, r), 801, "bends"),
    ],
)
def test_a_silent_change_of_the_schedule_is_found(change, at, text):
    columns = {"loss": falling(STEPS), "lr": change(lr_of(STEPS, COSINE))}
    found = findings(STEPS, columns)["schedule_change"]
    assert found.level is Level.ALARM
    assert abs((found.step or 0) - at) <= 10
    assert text in found.text
    # With an event that says so, it is on purpose.
    said = findings(STEPS, columns, events=[("recipe_changed", at - 1, {})])
    if text != "bends":
        assert said["schedule_change"].level is Level.REMARK
    # A phase of the recipe explains it.
    recipe = {"train": {"phase": [{"from_step": int(found.step or 0)}]}}
    assert "schedule_change" not in findings(STEPS, columns, recipe=recipe)


def test_a_planned_phase_is_a_bend_only():
    schedule = PhasedSchedule(Schedule("constant", N, 100), (Takeover("linear", 900, N),))
    assert not rate_changes(STEPS, lr_of(STEPS, schedule))


def test_overfitting_and_what_only_strays():
    up = held_out(lambda s: 3 + np.abs(s - 600) / 1500)
    found = findings(STEPS, {"loss": falling(STEPS)}, validation={"validation": up})
    assert found["overfitting"].level is Level.BROKEN
    assert found["overfitting"].step == 600
    # Validations that stray by 3% rise above their best without meaning it.
    flat = held_out(lambda s: 0 * s + 3.5, noise=0.05)
    found = findings(STEPS, {"loss": falling(STEPS)}, validation={"validation": flat})
    assert "overfitting" not in found
    assert "eval.tokens" in found["noise"].text
    calm = held_out(lambda s: 0 * s + 3.5)
    found = findings(STEPS, {"loss": falling(STEPS)}, validation={"validation": calm})
    assert "noise" not in found


def test_a_source_that_is_unlearned():
    sets = {"old": held_out(lambda s: 3 + np.abs(s - 600) / 1500), "new": held_out(quiet)}
    found = findings(STEPS, {"loss": falling(STEPS)}, validation=sets)
    assert '"old" was best at step 600' in found["unlearning"].text
    assert "gap" not in found
    sets = {"one": held_out(quiet), "two": held_out(quiet)}
    found = findings(STEPS, {"loss": falling(STEPS)}, validation=sets)
    assert not troubles(found)


def test_a_gap_is_memorising_only_where_text_came_twice():
    columns = {"loss": falling(STEPS) - 1, "tokens": 100 * STEPS}
    sets = {"validation": held_out(quiet)}
    for train_tokens, trouble in ((100_000, {"gap"}), (1_000_000, set())):
        data = {"sources": ["one"], "train_tokens": train_tokens}
        start = [("resumed", 0, {"data": data})]
        found = findings(STEPS, columns, validation=sets, events=start)
        assert troubles(found) == trouble
        assert "far below" in found["gap"].text


def test_still_falling_and_noise_larger_than_the_trend():
    line = 5 - STEPS / N
    assert "longer run would very likely" in findings(STEPS, {"loss": line})["still_falling"].text
    noise = 0.3 * np.random.default_rng(1).normal(size=N)
    found = findings(STEPS, {"loss": 3 + noise})
    assert "the noise is larger than the trend" in found["noise"].text
    assert "still_falling" not in found
    quiet = findings(STEPS, {"loss": np.full(N, 3.0)})
    assert "noise" not in quiet
    assert "still_falling" not in quiet


def spiked(at: Sequence[int], length: int) -> FloatArray:
    loss = falling(STEPS, noise=0.05)
    for step in at:
        loss[step : step + length] += 2.0 * np.exp(-np.arange(length) / 10)
    return loss


def test_spikes_that_take_long_to_come_back_say_the_rate_is_too_high():
    found = findings(STEPS, {"loss": spiked([500, 800, 1100], 30)})
    assert "spikes at step 501, 801, 1,101" in found["rate_too_high"].text
    assert troubles(found) == {"rate_too_high"}
    assert "rate_too_high" not in findings(STEPS, {"loss": spiked([500], 30)})
    assert "rate_too_high" not in findings(STEPS, {"loss": spiked(range(300, 1400, 50), 1)})


def test_hours_at_a_higher_loss_are_one_excursion():
    found = findings(STEPS, {"loss": falling(STEPS) + 3 * ((STEPS > 700) & (STEPS < 1000))})
    assert troubles(found) == {"excursion"}
    assert "at step 701 and is back only at step 1,000" in found["excursion"].text


def looks(ratio: float) -> Mapping[str, Table]:
    at = np.arange(50.0, N, 50)
    of_part = Table(at, {"update_ratio": np.full(len(at), ratio)})
    return {"embed": of_part, "blocks.0": of_part, "blocks.1": of_part}


@pytest.mark.parametrize(
    ("optimizer", "ratio", "rule"),
    [
        ("adamw", 0.1, "rate_too_high"),
        ("adamw", 1e-2, None),
        ("adamw", 1e-3, None),
        ("adamw", 1e-5, "rate_too_low"),
        ("muon", 0.03, None),
        ("muon", 0.4, "rate_too_high"),
        ("muon", 1e-4, "rate_too_low"),
    ],
)
def test_the_size_of_updates(optimizer, ratio, rule):
    columns = {"loss": falling(STEPS), "lr": lr_of(STEPS, Schedule("cosine", N))}
    recipe = {"optim": {"name": optimizer}}
    found = findings(STEPS, columns, recipe=recipe, health=looks(ratio))
    assert troubles(found) == ({rule} if rule else set())
    if rule:
        assert found[rule].chart == "health"


def test_a_plateau_under_rising_norms():
    half = STEPS > N / 2
    loss = np.where(half, 4.0, 6 - 4 * STEPS / N) + 0.01 * np.sin(STEPS)
    norm = np.where(half, STEPS / N * 4 - 1, 1.0)
    found = findings(STEPS, {"loss": loss, "grad_norm": norm})
    assert "stood still" in found["plateau"].text
    assert found["plateau"].chart == "grad_norm"
    # Norms may rise while the loss falls, while the rate falls, and a flat loss may be at its end.
    for columns in (
        {"loss": 6 - 2 * STEPS / N, "grad_norm": norm},
        {"loss": loss, "grad_norm": norm, "lr": lr_of(STEPS, Schedule("linear", N))},
        {"loss": loss, "grad_norm": np.ones(N)},
    ):
        assert "plateau" not in findings(STEPS, columns)


def test_clipping_of_nearly_all():
    norm = 5 + np.sin(STEPS)
    recipe = {"optim": {"clip": 1.0}}
    columns = {"loss": falling(STEPS), "grad_norm": norm}
    assert "100% of the logged" in findings(STEPS, columns, recipe=recipe)["mostly_clipped"].text
    for clip in (4.5, 0.0):  # hardly below the usual norm; none
        recipe = {"optim": {"clip": clip}}
        assert "mostly_clipped" not in findings(STEPS, columns, recipe=recipe)


def test_tokens_for_the_size():
    for tokens, word in ((1e6, "Few"), (2e7, ""), (3e9, "Many")):
        columns = {"loss": falling(STEPS), "tokens": tokens * STEPS / N}
        start = [("resumed", 0, {"parameters": {"total": 1_000_000}})]
        found = findings(STEPS, columns, events=start)
        assert ("chinchilla" in found) == bool(word)
        assert not word or found["chinchilla"].text.startswith(word)


def test_speed_that_is_lost():
    draw = np.random.default_rng(2)
    usual = 1e4 * (1 + 0.03 * draw.normal(size=N))
    loss = falling(STEPS)
    found = findings(STEPS, {"loss": loss, "tokens_per_s": np.where(STEPS > 600, 0.6, 1) * usual})
    assert "40% slower at step 601" in found["slower"].text
    now_and_then = np.where(STEPS % 10 == 0, 0.2, 1) * usual
    found = findings(STEPS, {"loss": loss, "tokens_per_s": now_and_then})
    assert "of the time was lost in 10% of the steps" in found["slow_steps"].text
    assert (
        not {"slower", "slow_steps"} & findings(STEPS, {"loss": loss, "tokens_per_s": usual}).keys()
    )


def test_what_happened_on_the_way_is_summed_up():
    events: list[Any] = [("resumed", 400, {}), ("skipped_step", 500, {}), ("resumed", 900, {})]
    found = findings(STEPS, {"loss": falling(STEPS)}, events=events)
    assert "2 resumes (step 400, 900), 1 refused update (step 500)" in found["interruptions"].text
    assert not troubles(found)
    events.append(("rolled_back", 700, {}))
    found = findings(STEPS, {"loss": falling(STEPS)}, events=events)
    assert found["interruptions"].level is Level.ALARM


def test_a_run_that_breaks_without_validations():
    loss = falling(STEPS) + 3 * (STEPS > 1000) * (1 - np.exp(-(STEPS - 1000) / 100))
    found = findings(STEPS, {"loss": loss})
    assert found["diverged"].level is Level.BROKEN
    assert 900 <= (found["diverged"].step or 0) <= 1050


# --- whatever was read ----------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.data())
def test_no_record_makes_a_rule_raise(data):
    n = data.draw(st.integers(0, 90))
    numbers = st.one_of(
        st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0, 1e300, -1e300])
    )
    columns = {
        name: np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))
        for name in ("loss", "lr", "grad_norm", "tokens_per_s", "tokens", "epochs/a")
    }
    steps = np.arange(float(n))
    at = np.arange(0.0, n, 7)
    losses = np.array(data.draw(st.lists(numbers, min_size=len(at), max_size=len(at))))
    record = RunRecord(
        name="odd",
        recipe_text=None,
        recipe={"data": {"stage": [1, {}]}, "train": {"phase": 3}, "optim": []},
        training=Table(steps, columns),
        validation={"a": Table(at, {"val_loss": losses}), "b": Table(at, {"val_loss": losses})},
        samples=(),
        events=(Event("resumed", "", None, "", {"data": 3}),),
        yardsticks=(),
        problems=(),
        health={"blocks.0": Table(at, {"update_ratio": losses})},
    )
    for finding in diagnose(record, gather(record)):
        assert math.isfinite(len(finding.text))


# --- a real run -----------------------------------------------------------------------------------


def test_the_real_run_of_18330_steps(shared_data: Path):
    """It was given other data near step 13,700 and another schedule near 15,600, in silence."""
    file = shared_data / "logs" / "rangeflow" / "expected_metrics.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    steps = np.array([row["step"] for row in rows], dtype=float)
    columns = {
        name: np.array([row[name] for row in rows], dtype=float)
        for name in ("loss", "lr", "tokens_per_s")
    }
    found = findings(steps, columns)
    assert found["data_switch"].step == 13_720
    assert found["schedule_change"].step == 15_610
    # A slower machine from step 410 on is true too; nothing else is wrong.
    assert troubles(found) == {"data_switch", "schedule_change"}
    assert set(found) - troubles(found) == {"no_validation", "still_falling", "slower"}
