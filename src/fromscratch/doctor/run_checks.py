"""What is looked for in a run: ours, stopped, running or finished, or one made from others' logs.

In: a `RunSubject`: the record that the report reads. What the curves show is `diagnose`'s, which
also writes the report's first lines; here it gets the regret's number and what to do.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.doctor.finding import Check
from fromscratch.doctor.recipe_checks import gigabytes
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.files import free_bytes
from fromscratch.foundation.names import (
    CHECKPOINT_RECIPE,
    RunPaths,
    step_folder,
    step_of_folder,
)
from fromscratch.report.diagnosis.diagnose import diagnose
from fromscratch.report.diagnosis.finding import Finding as Diagnosis
from fromscratch.report.diagnosis.finding import Level
from fromscratch.report.facts import Facts, gather
from fromscratch.report.numerals import count
from fromscratch.report.read import read_run
from fromscratch.report.record import RunRecord

_REGRET_OF: dict[str, tuple[str, str]] = {
    "not_finite": ("R26", "begin again with a lower optim.lr, and optim.clip=1"),
    "diverged": ("R26", "begin again with a lower optim.lr, and optim.clip=1"),
    "rate_too_high": ("R26", "halve optim.lr"),
    "mostly_clipped": ("R27", "lower optim.lr, or raise optim.clip to the usual norm"),
    "plateau": (
        "R28",
        "decay the learning rate and clip tighter from there on: a [[train.phase]] with "
        'schedule = "linear" and clip = 0.5',
    ),
    "no_validation": ("R04", "prepare the text with fromscratch prepare, which holds some out"),
    "unlearning": ("R01", "keep a share of that text, or blend it out: blend_tokens"),
    "data_switch": ("R01", "plan a change of text as a [[data.stage]] with blend_tokens"),
    "schedule_change": ("R37", "write a change of the learning rate as a [[train.phase]]"),
    "by_heart": ("R15", "give more text, or a smaller train.steps"),
    "chinchilla": ("R15", "see fromscratch plan RECIPE for what the size deserves"),
}
"""The regret that a rule of the diagnosis shows, and what to do about it."""
_PLANNED = ("schedule_change", "data_switch")
"""Rules that remark on what was done on purpose, too."""


@dataclass(frozen=True)
class RunSubject:
    """A run folder.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @property
    def paths(self) -> RunPaths:
        """Its files."""
        return RunPaths(self.folder)

    @cached_property
    def record(self) -> RunRecord:
        """Everything that the folder says."""
        return read_run(self.folder)

    @cached_property
    def facts(self) -> Facts:
        """The figures that it comes down to."""
        return gather(self.record)

    @cached_property
    def diagnoses(self) -> list[Diagnosis]:
        """What the curves show."""
        return diagnose(self.record, self.facts)

    @cached_property
    def events(self) -> Counter[str]:
        """How many of each kind there were."""
        return Counter(event.kind for event in self.record.events)

    @cached_property
    def newest(self) -> Path | None:
        """The newest checkpoint, by its number; not verified."""
        store = CheckpointStore(self.paths.checkpoints)
        steps = store.steps()
        return store.root / step_folder(steps[-1]) if steps else None

    @property
    def is_ours(self) -> bool:
        """Whether it was trained here, and not made from another trainer's logs."""
        return self.record.imported is None


def _shown(*regrets: str) -> Callable[[RunSubject], Iterator[Advice]]:
    """What the curves show of some regrets."""

    def look(subject: RunSubject) -> Iterator[Advice]:
        for found in subject.diagnoses:
            regret, fix = _REGRET_OF.get(found.rule, ("", ""))
            on_purpose = found.rule in _PLANNED and found.level is Level.REMARK
            if regret in regrets and not on_purpose:
                yield Advice(regret, found.text.rstrip("."), fix)

    return look


def _checkpoints_lost(subject: RunSubject) -> Iterator[Advice]:
    if subject.is_ours and subject.facts.step > 0 and subject.newest is None:
        yield Advice(
            "R40",
            f"it was trained up to step {count(subject.facts.step)}, and has no checkpoint",
            f"put them back into {subject.paths.checkpoints}; nothing is trained from scratch in "
            "silence",
        )


def _data_gone(subject: RunSubject) -> Iterator[Advice]:
    """`resume` refuses other data than the run's; here before anybody waits for it."""
    data = subject.record.recipe.get("data")
    if not subject.is_ours or not isinstance(data, dict) or subject.facts.state == "finished":
        return
    run = shlex.quote(str(subject.folder))
    sources = data.get("source") or [data]
    one = f", or say what to go on with: fromscratch resume {run} data.path=DATA"
    for source in sources if isinstance(sources, list) else []:
        path = source.get("path") if isinstance(source, dict) else None
        if isinstance(path, str) and Path(path).is_absolute() and not Path(path).exists():
            yield Advice(
                "R13",
                f"its data, {path}, is gone",
                "put it back" + ("" if data.get("source") else one),
            )


def _consumed_before(subject: RunSubject) -> Iterator[Advice]:
    for event in subject.record.events:
        if event.kind == "consumed_data":
            yield Advice("R03", event.message.rstrip("."), "write data.seed=1, or give new text")
            return


def _refused_updates(subject: RunSubject) -> Iterator[Advice]:
    skipped, back = subject.events["skipped_step"], subject.events["rolled_back"]
    if skipped or back:
        yield Advice(
            "R26",
            f"refused updates: {count(skipped)}; ways back to a checkpoint: {count(back)}; in "
            f"{count(subject.facts.step)} steps",
            "see them in the report; if they grow in number, lower optim.lr",
        )


def _edited_recipe(subject: RunSubject) -> Iterator[Advice]:
    """The recipe of a stopped run was changed by hand: `resume` takes it, and records it."""
    newest = subject.newest
    if newest is None or subject.record.recipe_text is None:
        return
    trained_with = newest / CHECKPOINT_RECIPE
    if not trained_with.is_file():
        return
    if trained_with.read_bytes() != subject.record.recipe_text.encode("utf-8"):
        step = step_of_folder(newest.name) or 0
        yield Advice(
            "R37",
            f"{subject.paths.recipe} is not what step {count(step)} was trained with",
            "resume says which settings differ, and writes it down; say changes as overrides: "
            f"fromscratch resume {shlex.quote(str(subject.folder))} optim.lr=1e-4",
        )


def _room_to_go_on(subject: RunSubject) -> Iterator[Advice]:
    """Whether what is still to be saved fits."""
    if not subject.is_ours or subject.newest is None or subject.facts.state == "finished":
        return
    size = sum(path.stat().st_size for path in subject.newest.iterdir() if path.is_file())
    free = free_bytes(subject.folder)
    if free < 2 * size:
        yield Advice(
            "R35",
            f"a checkpoint takes {gigabytes(size)}, and the disk has {gigabytes(free)} free",
            "make room before it goes on, or write checkpoint.keep_last=1",
        )


def _never_ended(subject: RunSubject) -> Iterator[Advice]:
    facts = subject.facts
    cut = facts.state == "running" and not _is_held(subject.paths.lock)
    if subject.is_ours and facts.planned_steps and (facts.state == "stopped" or cut):
        how = ", and nothing trains it: it was killed, or cut off" if cut else ""
        yield Advice(
            "R42",
            f"it stands at step {count(facts.step)} of {count(facts.planned_steps)}{how}",
            f"go on with: fromscratch resume {shlex.quote(str(subject.folder))}",
        )


def _is_held(path: Path) -> bool:
    """Whether a process trains the run: a killed one holds no lock."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _damaged(subject: RunSubject) -> Iterator[Advice]:
    """A checkpoint's files are as large as its manifest says; their content `resume` verifies."""
    newest = subject.newest
    if newest is None:
        return
    problem = verify(newest, checksums=False)
    if problem is not None:
        yield Advice(
            "R35",
            f"the newest checkpoint, {newest.name}, is damaged: {problem}",
            "resume puts it aside and takes the one before; a copy of it saves the steps since",
        )


def _mostly_unread(subject: RunSubject) -> Iterator[Advice]:
    problems = subject.record.problems
    if problems:
        first = problems[0]
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        yield Advice(
            "R36",
            f"part of the folder cannot be read: {first.file}: {first.what}{more}",
            "the rest is used; a copy of the folder may have them",
        )


RUN_CHECKS: tuple[Check[RunSubject], ...] = (
    Check("R40", "its checkpoints are there", _checkpoints_lost, "refused"),
    Check("R13", "its data is there", _data_gone, "refused"),
    Check("R35", "there is room to go on", _room_to_go_on),
    Check("R35", "its newest checkpoint is whole", _damaged),
    Check("R26", "the loss is finite and falls", _shown("R26")),
    Check("R26", "no update was refused", _refused_updates),
    Check("R04", "it was validated", _shown("R04")),
    Check("R01", "nothing was unlearned", _shown("R01")),
    Check("R27", "clipping is the exception", _shown("R27")),
    Check("R28", "gradient norms do not rise", _shown("R28")),
    Check("R15", "enough tokens for the size", _shown("R15")),
    Check("R37", "no setting changed unseen", _shown("R37")),
    Check("R37", "its recipe is what it trained with", _edited_recipe),
    Check("R03", "its tokens were new", _consumed_before),
    Check("R42", "it ended", _never_ended),
    Check("R36", "its files can be read", _mostly_unread),
)


def compare(subjects: list[RunSubject]) -> Iterator[tuple[str, Advice]]:
    """Of several runs: whether their losses may be compared (R44)."""
    first = subjects[0]
    for other in subjects[1:]:
        one, two = (_judged_on(s) for s in (first, other))
        if None in (one, two) or one == two:
            continue
        assert one is not None
        assert two is not None
        named = shlex.join([str(first.folder), str(other.folder)])
        what = "tokenizers" if one[0] != two[0] else "held-out text"
        yield (
            f"{first.folder} and {other.folder}",
            Advice(
                "R44",
                f"they were validated with different {what}, so a loss per token says nothing of "
                "which is better",
                f"compare bits per byte on one text: fromscratch eval {named} --data TEXT",
            ),
        )


def _judged_on(subject: RunSubject) -> tuple[str, str] | None:
    """The tokenizer and the held-out text, as the run's start recorded them."""
    for event in reversed(subject.record.events):
        data = event.extra.get("data") if event.kind == "started" else None
        if isinstance(data, dict):
            return str(data.get("tokenizer")), f"{data.get('fingerprint')}"
    return None
