"""What `--data` means: prepared data, a run's own validation data, or text of any kind.

In: the words of a command line. Out: texts to evaluate on, one a source, each under a name that no
other has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from fromscratch.data.documents import Split
from fromscratch.data.reading import Reading
from fromscratch.data.settling import as_documents
from fromscratch.data.shards import Manifest, is_prepared, load_manifest
from fromscratch.data.sources import Source, parse_sources
from fromscratch.data.watching import Watch, unwatched
from fromscratch.evaluate.text_data import EvalText, PreparedText, SourceText
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RUN_RECIPE
from fromscratch.runs.opened_data import parts_of
from fromscratch.runs.recipe_files import load_recipe

_WORDS: dict[Split, str] = {"val": "validation", "train": "training"}


def eval_texts(
    specs: list[str], *, split: Split, reading: Reading, spooled: Path | None = None
) -> list[EvalText]:
    """The texts that a person named.

    Args:
        specs: Prepared folders, runs, or sources as `prepare` takes them; each may be `NAME=...`.
        split: Which side of prepared data and of runs.
        reading: How sources are read.
        spooled: The file that standard input was put into.

    Raises:
        UserError: There is nothing there, or two texts have one name.
    """
    texts: list[EvalText] = []
    for spec in specs:
        (source,) = parse_sources([spec], reading)
        path = Path(source.spec).expanduser()
        label = source.spec if source.spec == spec else source.name
        if label == source.spec and source.is_standard_input:
            label = "standard input"
        if is_prepared(path):
            texts += _prepared(label, path, load_manifest(path), split, None)
        elif (path / RUN_RECIPE).is_file():
            texts += run_texts(path, split=split)
        elif split != "val":
            raise UserError(
                f"--split {split} means one side of prepared data; {spec} is text, which has none.",
                fix="Leave --split out: all of it is evaluated on.",
            )
        else:
            texts.append(SourceText(label, _settled(source, spooled)))
    names = Counter(text.name for text in texts)
    for name, count in names.items():
        if count > 1:
            raise UserError(
                f'Two --data are called "{name}".', fix="Name them: --data NAME=PATH for each."
            )
    return texts


def run_texts(run: Path, *, split: Split = "val", watch: Watch = unwatched) -> list[EvalText]:
    """A run's own data: what it was validated on while it was trained, one text a source.

    Raises:
        UserError: Its data is no longer there, or nothing of it is held out.
    """
    recipe = load_recipe(str(run / RUN_RECIPE))
    if recipe.train.objective != "pretrain":
        raise UserError(
            f"{run} was finetuned on conversations, which are no text to be read from end to end; "
            "its validation loss stands in its report.",
            fix="Name a text: --data FILE.",
        )
    parts = parts_of(recipe.data, watch)
    if len(parts) == 1:
        (part,) = parts
        label = f"{_WORDS[split]} of {run}"
        return _prepared(label, part.folder, part.manifest, split, part.only)
    texts: list[EvalText] = [
        PreparedText(
            f"{part.name}: {_WORDS[split]} of {run}", part.folder, part.manifest, split, part.only
        )
        for part in parts
        if part.total("tokens", split)
    ]
    if not texts:
        raise _nothing(str(run), split)
    return texts


def _prepared(
    label: str, folder: Path, manifest: Manifest, split: Split, only: str | None
) -> list[EvalText]:
    """The sources in a data folder; one text where there is only one, or one is meant."""
    inside = [s.name for s in manifest.sources if manifest.total("tokens", split, s.name)]
    if split == "train" and _WORDS[split] not in label:
        label = f"{label} (training)"
    if only is not None:
        inside = [name for name in inside if name == only]
    if not inside:
        raise _nothing(str(folder), split)
    if len(inside) == 1:
        return [PreparedText(label, folder, manifest, split, inside[0])]
    return [PreparedText(f"{name}: {label}", folder, manifest, split, name) for name in inside]


def _nothing(where: str, split: Split) -> UserError:
    if split == "train":
        return UserError(f"{where} has no training text.")
    return UserError(
        f"{where} has no validation text (R04).",
        fix="Name other text: --data FILE; or, to measure what was trained on, --split train.",
    )


def _settled(source: Source, spooled: Path | None) -> Source:
    if source.is_standard_input:
        source = replace(source, spooled=spooled)
    source = source.listed()
    source.portions()  # a path that is not there is a mistake now, and not after an hour
    (settled,) = as_documents([source], [source.reading.documents])
    return settled
