"""What a record says of a model, and to which run its records go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.records import EvaluatedModel
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import CHECKPOINT_STATE, RUN_CHECKPOINTS, RUN_RECIPE


def evaluated_model(name: str, bundle: ModelBundle) -> EvaluatedModel:
    """What records say of a model: its weights' hash, and for a checkpoint of ours its step."""
    state: dict[str, Any] = {}
    if (bundle.folder / CHECKPOINT_STATE).is_file():
        content = read_json(bundle.folder / CHECKPOINT_STATE)
        state = content if isinstance(content, dict) else {}
    return EvaluatedModel(
        name=name,
        sha256=bundle.sha256,
        step=state.get("step"),
        tokens=state.get("tokens"),
        parameters=sum(p.numel() for p in bundle.model.parameters()),
        tokenizer=bundle.tokenizer.fingerprint,
    )


def run_of(named: str | Path) -> Path | None:
    """The run that a model's name means, or in whose checkpoints/ it lies; None without one."""
    path = Path(named).expanduser()
    if _is_run(path):
        return path
    above = path.parent if path.parent.name else path.absolute().parent
    return above.parent if above.name == RUN_CHECKPOINTS and _is_run(above.parent) else None


def _is_run(folder: Path) -> bool:
    return (folder / RUN_RECIPE).is_file() and (folder / RUN_CHECKPOINTS).is_dir()
