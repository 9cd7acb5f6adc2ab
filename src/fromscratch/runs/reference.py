"""What the model that DPO starts from makes of all pairs: computed once, kept in the run's folder.

In: a session whose data are pairs. Out: their reference log-probabilities in the rows that batches
are read from. They are computed by the run's own model while it still is the one that it started
from, so that no second model is ever in memory; a run that goes on reads them again. What always
holds: what is read was made by that model, of these very pairs, and is whole; else it is computed
again, for which that model must still be there.
"""

from __future__ import annotations

import hashlib
import json

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fromscratch.data.preference_rows import PairRows
from fromscratch.data.watching import Advance, Watch
from fromscratch.evaluate.preference import log_probs_of
from fromscratch.foundation.errors import UserError
from fromscratch.model.gpt import GPT
from fromscratch.runs.session import Session
from fromscratch.runs.starting_model import fill_from_base

_KEY, _SHA256 = "made_from", "sha256"


def ready_reference(session: Session, report: Watch) -> bytes | None:
    """Gives a session's pairs their reference, where the objective needs one.

    A collective call: the ranks share the work.

    Args:
        session: With the weights that it will train.
        report: Told how far the work is.

    Returns:
        What is to be written to the run's folder; None where it is there, or not needed.

    Raises:
        UserError: It must be computed again, and the model that the run started from is gone.
    """
    if session.recipe.train.objective != "dpo":
        return None
    rows = _rows_of(session)
    key = _made_from(session, rows)
    found, content = None, None
    if session.ranks.from_main(session.paths.reference.is_file):
        found = _read(session, rows, key)
    if found is None:
        found = _computed(session, rows, report)
        content = save(found, metadata={_KEY: key, _SHA256: _digest(found)})
    for name, some in rows.items():
        some.reference = found[name]
    return content


def _rows_of(session: Session) -> dict[str, PairRows]:
    """All pairs that are trained on or held out, by side and source; those with any."""
    data = session.data
    sides = {f"train/{source.name}": source.windows for source in data.training.sources}
    sides |= {f"val/{held_out.name}": held_out.windows for held_out in data.validation}
    return {name: rows for name, rows in sides.items() if isinstance(rows, PairRows)}


def _made_from(session: Session, rows: dict[str, PairRows]) -> str:
    """The model and the pairs, as one hash."""
    made = {name: some.examples.manifest.fingerprint for name, some in rows.items()}
    content = json.dumps([session.recipe.base.sha256, made], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _digest(found: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(found.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(session: Session, rows: dict[str, PairRows], key: str) -> dict[str, Tensor] | None:
    """What the file says; None where it is of other pairs, of another model, or damaged."""
    try:
        with safe_open(session.paths.reference, framework="pt") as file:
            said: dict[str, str] = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if said.get(_KEY) != key or said.get(_SHA256) != _digest(found) or found.keys() != rows.keys():
        return None
    return found


def _computed(session: Session, rows: dict[str, PairRows], report: Watch) -> dict[str, Tensor]:
    model = session.shared.whole()
    if session.state.progress.step:
        model = _starting_model(session)
    total, done = sum(map(len, rows.values())), 0

    def advance(pairs: int) -> None:
        nonlocal done
        done += pairs
        report(Advance("reference", done, share=done / total))

    return {
        name: log_probs_of(
            model,
            some,
            batch_size=session.config.micro_batch,
            # As they will be computed in the steps, and in the validations.
            **({"autocast": session.precision.autocast} if name.startswith("train/") else {}),
            on_pairs=advance,
            ranks=session.ranks,
        )
        for name, some in rows.items()
    }


def _starting_model(session: Session) -> GPT:
    """The model that the run started from, beside its own: for this once."""
    recipe = session.recipe
    model = GPT(recipe.model).to(session.state.model.device)
    try:
        fill_from_base(model, recipe, session.data.tokenizer)
    except UserError as error:
        raise UserError(
            f"{session.paths.reference} is missing, damaged or of other data, and cannot be made "
            f"again: {error.what}",
            fix=f"Restore it, or {recipe.base.model}.",
        ) from error
    return model
