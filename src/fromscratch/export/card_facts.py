"""What a model card says of a run, collected from its files.

In: a model, and where there is one its run folder. Out: `CardFacts`. What the files do not say is
absent, never guessed. Where text lay on somebody's machine does not leave it: of a path only the
last name is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.checkpoint.hub_model import is_hub_name
from fromscratch.data.shards import is_prepared, load_manifest
from fromscratch.evaluate.evaluated import evaluated_model, run_of
from fromscratch.evaluate.records import EvalRecord, EvaluatedModel
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.report.diagnosis.diagnose import diagnose
from fromscratch.report.evals import latest
from fromscratch.report.facts import (
    Facts,
    Validation,
    gather,
    headline_set,
    started_with,
    validations_of,
)
from fromscratch.report.read import read_run
from fromscratch.report.record import RunRecord
from fromscratch.report.settings import defaults, flat

# What is said elsewhere on the card, or would tell where things lie on somebody's machine.
_ELSEWHERE = ("name", "description", "data.path", "data.source", "track.", "checkpoint.", "base.")
_HUB_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class SourceFacts:
    """One source of the training text.

    Attributes:
        name: How it is called in the run.
        origin: `hf:ORG/NAME...` of the hub, else the last part of a path.
        weight: Its share of the training windows, in any unit; None where there is one source.
        documents: Of both sides of the split; None where the prepared data is gone.
        n_bytes: UTF-8 bytes of their text.
        train_tokens: On the training side.
        val_tokens: Held out.
    """

    name: str
    origin: str
    weight: float | None = None
    documents: int | None = None
    n_bytes: int | None = None
    train_tokens: int | None = None
    val_tokens: int | None = None

    @property
    def hub_name(self) -> str | None:
        """`ORG/NAME` where it is a data set of the hub."""
        match = _HUB_NAME.match(self.origin)
        return match[1] if match else None


@dataclass(frozen=True)
class BaseFacts:
    """The model that a run started from.

    Attributes:
        name: On the hub `ORG/NAME`, else the last part of its path, or its run.
        on_hub: Whether it is a name on the hub.
        sha256: Of its weights.
        objective: What was trained then: `sft`, `dpo`, ...
    """

    name: str
    on_hub: bool
    sha256: str
    objective: str


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        weights: Which weights: their sha256, step, tokens.
        record: What the run's files say; None without a run.
        facts: What that comes down to.
        base: The model that the run started from; None where it began with nothing.
        sources: Of the training text.
        prepared: What the run recorded of its data when it began.
        settings: The recipe's differences from the defaults.
        shows: What the curves show, in sentences.
        validation: The last measurement on held-out text at the weights' step.
        evals: Evaluations of these very weights.
        other_evals: How many evaluations were of other weights.
    """

    weights: EvaluatedModel
    record: RunRecord | None = None
    facts: Facts | None = None
    base: BaseFacts | None = None
    sources: tuple[SourceFacts, ...] = ()
    prepared: Mapping[str, object] = field(default_factory=dict)
    settings: tuple[tuple[str, object], ...] = ()
    shows: tuple[str, ...] = ()
    validation: Validation | None = None
    evals: tuple[EvalRecord, ...] = ()
    other_evals: int = 0


def card_facts(named: str | Path, bundle: ModelBundle) -> CardFacts:
    """Collects what is known of a model.

    Args:
        named: As it was named on the command line.
        bundle: The same, read.
    """
    weights = evaluated_model(str(named), bundle)
    run = run_of(named)
    if run is None:
        return CardFacts(weights)
    record = read_run(run)
    facts = gather(record)
    evals = latest(record.evals)
    prepared = started_with(record.events, "data")
    of_these = tuple(e for e in evals if e.model.sha256 == bundle.sha256)
    return CardFacts(
        weights=weights,
        record=record,
        facts=facts,
        base=_base(record.recipe),
        sources=_sources(record),
        prepared=prepared if isinstance(prepared, Mapping) else {},
        settings=_settings(record.recipe, bundle.model.config),
        shows=tuple(finding.text for finding in diagnose(record, facts)),
        validation=_validation(record, weights.step),
        evals=of_these,
        other_evals=len(evals) - len(of_these),
    )


def _base(recipe: Mapping[str, Any]) -> BaseFacts | None:
    base, train = recipe.get("base"), recipe.get("train")
    named = base.get("model") if isinstance(base, Mapping) else None
    if not isinstance(base, Mapping) or not isinstance(named, str) or not named:
        return None
    objective = train.get("objective", "pretrain") if isinstance(train, Mapping) else "pretrain"
    path = Path(named)
    if path.is_absolute():
        run = run_of(path)
        name = run.name if run is not None else path.name
    else:
        name = named
    return BaseFacts(name, is_hub_name(named), str(base.get("sha256", "")), str(objective))


def _validation(record: RunRecord, step: int | None) -> Validation | None:
    name = headline_set(record)
    found = validations_of(record.validation[name]) if name is not None else ()
    return next((v for v in reversed(found) if v.step == step), None)


def _settings(recipe: Mapping[str, Any], config: ModelConfig) -> tuple[tuple[str, object], ...]:
    usual = defaults() | _usual_model(config)
    return tuple(
        (name, _origin(value) if isinstance(value, str) else value)
        for name, value in flat(recipe).items()
        if not name.startswith(_ELSEWHERE) and (name not in usual or usual[name] != value)
    )


def _usual_model(config: ModelConfig) -> dict[str, object]:
    """What a model of this shape has where its recipe says nothing; the shape is said elsewhere."""
    shape = ("family", "n_layer", "n_head", "n_kv_head", "d_model", "d_ff", "context")
    given = config.model_dump(include={*shape, "vocab_size", "padded_vocab"})
    return {f"model.{key}": value for key, value in ModelConfig(**given).model_dump().items()}


def _sources(record: RunRecord) -> tuple[SourceFacts, ...]:
    data = record.recipe.get("data")
    if not isinstance(data, Mapping):
        return ()
    given = data.get("source")
    listed = [s for s in given if isinstance(s, Mapping)] if isinstance(given, list) else []
    if not listed:
        return _of_folder(data.get("path"), None, None)
    return tuple(
        fact
        for source in listed
        for fact in _of_folder(source.get("path"), source.get("name"), source.get("weight", 1.0))
    )


def _of_folder(path: object, name: object, weight: object) -> tuple[SourceFacts, ...]:
    """The sources in a prepared folder; of several those that a recipe's source means."""
    if not isinstance(path, str):
        return ()
    share = float(weight) if isinstance(weight, int | float) else None
    called = name if isinstance(name, str) else None
    folder = Path(path).expanduser()
    try:
        if not is_prepared(folder):
            return (SourceFacts(called or _origin(path), _origin(path), share),)
        manifest = load_manifest(folder)
    except (UserError, OSError):
        return (SourceFacts(called or _origin(path), _origin(path), share),)
    inside = [s for s in manifest.sources if s.name == called] or manifest.sources

    def total(quantity: str, source: str, *, held_out: bool = True) -> int:
        train = manifest.total(quantity, "train", source)
        return train + (manifest.total(quantity, "val", source) if held_out else 0)

    return tuple(
        SourceFacts(
            name=called if called and len(inside) == 1 else source.name,
            origin=_origin(source.spec),
            weight=share,
            documents=total("documents", source.name),
            n_bytes=total("bytes", source.name),
            train_tokens=total("tokens", source.name, held_out=False),
            val_tokens=manifest.total("tokens", "val", source.name),
        )
        for source in inside
    )


def _origin(spec: str) -> str:
    """A source's name as others may know it: no path of this machine."""
    if spec.startswith("hf:"):
        return spec
    return Path(spec.rstrip("/")).name or spec
