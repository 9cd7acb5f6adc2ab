"""A recipe's data, prepared on first use and opened.

`data.path` may name prepared data or any source. A source is prepared once into
`prepared/NAME-HASH/`, where the hash covers the source, its files' sizes and times, and all
settings of the preparation: text that has changed is prepared anew, never used stale (R13). A run
keeps the prepared folder in its recipe, so it goes on with the data that it began with.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fromscratch.data.batches import TrainingData, TrainingSource, ValidationSet, Windows
from fromscratch.data.documents import SPLITS, Split
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import Manifest, TokenStream, is_prepared, load_manifest
from fromscratch.data.sources import Source, name_for
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import DATA_MANIFEST
from fromscratch.model.config import ModelConfig
from fromscratch.runs.recipe import DataConfig, SourceConfig
from fromscratch.tokenizer.names import bpe_size
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

PREPARED = Path("prepared")
POOLED = "validation"


@dataclass(frozen=True)
class OpenedData:
    """Training windows, validation sets and the tokenizer that made them.

    Attributes:
        training: By sample number.
        validation: The pooled set first; with several sources, one for each besides.
        tokenizer: Of all the data.
        folders: The prepared data, by source.
        manifests: Of these folders.
        windows_per_epoch: Of a single source; None for a mixture.
    """

    training: TrainingData
    validation: list[ValidationSet]
    tokenizer: Tokenizer
    folders: dict[str, Path]
    manifests: dict[str, Manifest]
    windows_per_epoch: int | None

    def describe(self) -> dict[str, object]:
        """What the report says about the data."""
        all_of = list(self.manifests.values())
        return {
            "sources": list(self.manifests),
            "train_tokens": sum(m.total("tokens", "train") for m in all_of),
            "val_tokens": sum(m.total("tokens", "val") for m in all_of),
            "val_bytes": sum(m.total("bytes", "val") for m in all_of),
            "documents": sum(m.total("documents", s) for m in all_of for s in SPLITS),
            "tokenizer": self.tokenizer.name,
            "fingerprint": self.training.fingerprint,
        }


def open_data(
    data: DataConfig,
    model: ModelConfig,
    eval_tokens: int,
    report: Callable[[str, int], None],
) -> OpenedData:
    """Opens what a recipe trains on.

    Args:
        data: The recipe's table.
        model: For context and vocabulary.
        eval_tokens: Upper bound of each validation set; 0 for all.
        report: Progress of preparation: stage and documents.

    Raises:
        UserError: The data cannot be had, or was made by another tokenizer than the recipe's.
    """
    sources = data.source or [_only_source(data, report)]
    folders = {source.name: prepared_folder(source, data, report) for source in sources}
    manifests = {name: load_manifest(folder) for name, folder in folders.items()}
    for name, manifest in manifests.items():
        _check_tokenizer(manifest, data.tokenizer, folders[name])
    first = sources[0].name
    if len({m.tokenizer_fingerprint for m in manifests.values()}) > 1:
        other = next(
            n
            for n, m in manifests.items()
            if m.tokenizer_fingerprint != manifests[first].tokenizer_fingerprint
        )
        raise UserError(
            f'The sources "{first}" and "{other}" were prepared with different tokenizers.',
            fix=f"Prepare one with the other's: --tokenizer {folders[first]}.",
        )
    tokenizer = load_tokenizer(folders[first])
    if tokenizer.fingerprint != manifests[first].tokenizer_fingerprint:
        raise UserError(
            f"The tokenizer in {folders[first]} is not the one its data was prepared with.",
            fix="Prepare the data again.",
        )
    if tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"The data's tokenizer has {tokenizer.vocab_size:,} ids and the model's vocabulary "
            f"{model.vocab_size:,}.",
            fix=f"Set model.vocab_size={tokenizer.vocab_size}.",
        )
    eot_id = tokenizer.eot_id if data.document_mask else None
    training = TrainingData(
        [
            TrainingSource(
                source.name,
                source.weight,
                _windows(folders[source.name], manifests[source.name], "train", model.context),
                manifests[source.name].fingerprint,
            )
            for source in sources
        ],
        seed=data.seed,
        eot_id=eot_id,
    )
    sets = []
    for source in sources:
        windows = _windows(folders[source.name], manifests[source.name], "val", model.context)
        if len(windows.stream):
            name = POOLED if len(sources) == 1 else source.name
            sets.append(ValidationSet(name, windows, tokenizer.bytes_per_id, eot_id, eval_tokens))
    return OpenedData(
        training=training,
        validation=sets,
        tokenizer=tokenizer,
        folders=folders,
        manifests=manifests,
        windows_per_epoch=len(training.sources[0].windows) if len(sources) == 1 else None,
    )


def _only_source(data: DataConfig, report: Callable[[str, int], None]) -> SourceConfig:
    """`data.path` as a source, called what its text was called when it was prepared."""
    assert data.path is not None
    origin = SourceConfig(name=name_for(data.path), path=data.path)
    folder = prepared_folder(origin, data, report)
    name = "+".join(source.name for source in load_manifest(folder).sources)
    return SourceConfig(name=name, path=str(folder))


def prepared_folder(
    source: SourceConfig, data: DataConfig, report: Callable[[str, int], None]
) -> Path:
    """The prepared data of a source, made now if it is not there yet."""
    path = Path(source.path).expanduser()
    if is_prepared(path):
        return path
    origin = Source(source.name, source.path)
    settings = [
        source.path,
        origin.stamp(),
        data.tokenizer,
        data.val_fraction,
        data.documents,
        data.seed,
    ]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", source.name)
    folder = PREPARED / f"{plain}-{key}"
    if not (folder / DATA_MANIFEST).is_file():
        options = PrepareOptions(
            tokenizer=data.tokenizer,
            val_fraction=data.val_fraction,
            documents=data.documents,
            seed=data.seed,
        )
        prepare([origin], folder, options, progress=report)
    return folder


def _windows(folder: Path, manifest: Manifest, split: Split, context: int) -> Windows:
    stream = TokenStream(folder, manifest.select(split))
    return Windows(stream, context)


def _check_tokenizer(manifest: Manifest, spec: str, folder: Path) -> None:
    """Refuses data that another tokenizer made than the recipe names."""
    if spec.startswith("bpe:"):
        # A small text can have fewer pairs to merge than the vocabulary has room for.
        fits = manifest.tokenizer == "bpe" and manifest.vocab_size <= bpe_size(spec)
    elif spec in ("gpt2", "bytes", "chars"):
        fits = manifest.tokenizer == spec
    else:
        fits = manifest.tokenizer_fingerprint == load_tokenizer(Path(spec)).fingerprint
    if not fits:
        made_by = manifest.tokenizer
        made_by += f":{manifest.vocab_size}" if made_by == "bpe" else ""
        raise UserError(
            f'{folder} was prepared with the tokenizer "{made_by}", and the recipe says "{spec}".',
            fix=f"Set data.tokenizer={made_by}, or prepare the text again.",
        )
