"""A recipe's data, prepared on first use and opened.

`data.path` may name prepared data or any source. A source is prepared once into
`prepared/NAME-HASH/`, where the hash covers the source, its files' sizes and times, and all
settings of the preparation: text that has changed is prepared anew, never used stale (R13). A run
keeps the prepared folder in its recipe, so it goes on with the data that it began with. Where a
folder holds several sources and a `[[data.source]]` has the name of one, it is that one's part.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from fromscratch.chat.template import Template
from fromscratch.data.batches import TrainingData, TrainingSource, ValidationSet, Windows
from fromscratch.data.documents import SPLITS, Split
from fromscratch.data.hub import HUB_PREFIX
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import Manifest, TokenStream, is_prepared, load_manifest
from fromscratch.data.sources import Reading, Source, name_for
from fromscratch.data.watching import Watch
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.names import DATA_MANIFEST
from fromscratch.model.config import ModelConfig
from fromscratch.runs.data_config import DataConfig, SourceConfig
from fromscratch.runs.mixture_plan import no_training_text
from fromscratch.tokenizer.names import bpe_size, needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

PREPARED = Path("prepared")
POOLED = "validation"


@dataclass(frozen=True)
class Part:
    """What a source of the recipe is on disk.

    Attributes:
        name: The source's.
        folder: Prepared data.
        manifest: Of the folder.
        only: The one source in the folder that is meant; None for all of it.
    """

    name: str
    folder: Path
    manifest: Manifest
    only: str | None

    def total(self, quantity: str, split: Split) -> int:
        """Sum of `tokens`, `documents` or `bytes` of a split."""
        return self.manifest.total(quantity, split, self.only)

    @property
    def texts(self) -> tuple[str, ...]:
        """Hashes of the texts in it, whatever folder and tokenizer they are prepared with."""
        return tuple(s.sha256 for s in self.manifest.sources if self.only in (None, s.name))

    def windows(self, split: Split, context: int, *, only: str | None = None) -> Windows:
        """A split's windows; with `only`, those of one source in the folder."""
        shards = self.manifest.select(split, self.only or only)
        return Windows(TokenStream(self.folder, shards), context)


@dataclass(frozen=True)
class OpenedData:
    """Training windows, validation sets and the tokenizer that made them.

    Attributes:
        training: By sample number.
        validation: One set where there is one source, called `validation`; else one a source.
        tokenizer: Of all the data.
        parts: The prepared data, by source.
        windows_per_epoch: Of a single source; None for a mixture.
        warnings: Name and sentence of what the person should know.
        template: How conversations are written; None where the data are texts.
    """

    training: TrainingData
    validation: list[ValidationSet]
    tokenizer: Tokenizer
    parts: list[Part]
    windows_per_epoch: int | None
    warnings: list[tuple[str, str]]
    template: Template | None = None

    @property
    def folders(self) -> dict[str, Path]:
        """The prepared data, by source; each with its tokenizer in it."""
        return {part.name: part.folder for part in self.parts}

    @property
    def tokenizer_folder(self) -> Path:
        """A folder with the tokenizer in it."""
        return next(iter(self.folders.values()))

    def describe(self) -> dict[str, object]:
        """What the report says about the data."""
        parts = self.parts
        return {
            "sources": [part.name for part in parts],
            "train_tokens": sum(part.total("tokens", "train") for part in parts),
            "val_tokens": sum(part.total("tokens", "val") for part in parts),
            "val_bytes": sum(part.total("bytes", "val") for part in parts),
            "documents": sum(part.total("documents", s) for part in parts for s in SPLITS),
            "tokenizer": self.tokenizer.name,
            "fingerprint": self.training.fingerprint,
        }


def open_data(
    data: DataConfig,
    model: ModelConfig,
    eval_tokens: int,
    report: Watch,
) -> OpenedData:
    """Opens what a recipe trains on.

    Args:
        data: The recipe's table.
        model: For context and vocabulary.
        eval_tokens: Upper bound of each validation set; 0 for all.
        report: Told how the preparation goes.

    Raises:
        UserError: The data cannot be had, or was made by another tokenizer than the recipe's.
    """
    sources = data.source or [_only_source(data, report)]
    parts = _parts(sources, prepared_folders(sources, data, report))
    tokenizer = _tokenizer_of(parts, data.tokenizer)
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
                part.windows("train", model.context),
                part.manifest.fingerprint,
                part.texts,
            )
            for source, part in zip(sources, parts, strict=True)
        ],
        seed=data.seed,
        eot_id=eot_id,
        stages=data.shares(unit=model.context).stages,
    )
    held_out = _held_out(parts, model.context)
    return OpenedData(
        training=training,
        validation=[
            ValidationSet(name, windows, tokenizer.bytes_per_id, eot_id, eval_tokens)
            for name, windows in held_out.items()
            if len(windows.stream)
        ],
        tokenizer=tokenizer,
        parts=parts,
        windows_per_epoch=len(training.sources[0].windows) if len(sources) == 1 else None,
        warnings=[
            (
                "no_held_out_text",
                f'of "{name}" nothing is held out, so nothing tells how it is learnt',
            )
            for name, windows in held_out.items()
            if not len(windows.stream)
        ],
    )


def parts_of(data: DataConfig, report: Watch) -> list[Part]:
    """What a recipe's data is on disk, one part a source; prepared now where it is not there yet.

    Raises:
        UserError: The data cannot be had.
    """
    sources = data.source or [_only_source(data, report)]
    return _parts(sources, prepared_folders(sources, data, report))


def _parts(sources: list[SourceConfig], folders: dict[str, Path]) -> list[Part]:
    """Each source's data: a folder of its own, or what the folder has of the source's name."""
    manifests = {folder: load_manifest(folder) for folder in dict.fromkeys(folders.values())}
    parts = []
    for source in sources:
        folder = folders[source.name]
        names = [summary.name for summary in manifests[folder].sources]
        shared = list(folders.values()).count(folder) > 1
        only = source.name if source.name in names and len(names) > 1 else None
        if shared and only is None:
            raise UserError(
                f'Several [[data.source]] are {folder}, and "{source.name}" is not a source in it.'
                f"{did_you_mean(source.name, names)}",
                fix=f"Call each as the data does: {', '.join(names)}.",
            )
        part = Part(source.name, folder, manifests[folder], only)
        if not part.total("tokens", "train"):
            raise no_training_text(source.name, folder)
        parts.append(part)
    return parts


def _held_out(parts: list[Part], context: int) -> dict[str, Windows]:
    """Held-out windows by the name of their set."""
    if len(parts) > 1:
        named = [(part.name, part.windows("val", context)) for part in parts]
    else:
        part = parts[0]
        inside = [summary.name for summary in part.manifest.sources]
        if len(inside) == 1 or part.only is not None:
            return {POOLED: part.windows("val", context)}
        named = [(name, part.windows("val", context, only=name)) for name in inside]
    # A file called validation.txt is an ordinary source.
    return {f"{name} (source)" if name == POOLED else name: w for name, w in named}


def _only_source(data: DataConfig, report: Watch) -> SourceConfig:
    """`data.path` as a source, called what its text was called when it was prepared."""
    assert data.path is not None
    origin = SourceConfig(
        name=name_for(data.path), path=data.path, field=data.field, render=data.render
    )
    folder = prepared_folders([origin], data, report)[origin.name]
    name = "+".join(source.name for source in load_manifest(folder).sources)
    return SourceConfig(name=name, path=str(folder))


def prepared_folders(
    sources: list[SourceConfig], data: DataConfig, report: Watch
) -> dict[str, Path]:
    """The prepared data of each source, made now where it is not there yet.

    A tokenizer that is trained on the text must be one for all: such sources share a folder.
    """
    folders, groups = _grouped(sources, data)
    for group in groups:
        folder = _prepared([_origin(source) for source in group], data, report)
        folders |= {source.name: folder for source in group}
    return folders


def already_prepared(data: DataConfig) -> dict[str, Path] | None:
    """The prepared data of each source, where nothing has to be prepared and no hub to be asked.

    Raises:
        UserError: A text is not there.
    """
    sources = list(data.source)
    if data.path is not None:
        name = name_for(data.path)
        sources = [SourceConfig(name=name, path=data.path, field=data.field, render=data.render)]
    folders, groups = _grouped(sources, data)
    for group in groups:
        if any(source.path.startswith(HUB_PREFIX) for source in group):
            return None
        folder = _folder_of([_origin(source).listed() for source in group], data)
        if not (folder / DATA_MANIFEST).is_file():
            return None
        folders |= {source.name: folder for source in group}
    return folders or None


def _grouped(
    sources: list[SourceConfig], data: DataConfig
) -> tuple[dict[str, Path], list[list[SourceConfig]]]:
    """Where each source lies, and those that are still text, by the folder they will share."""
    folders = {source.name: Path(source.path).expanduser() for source in sources}
    raw = [source for source in sources if not is_prepared(folders[source.name])]
    together = [raw] if needs_training(data.tokenizer) else [[source] for source in raw]
    return folders, [group for group in together if group]


def _origin(source: SourceConfig) -> Source:
    return Source(source.name, source.path, Reading(field=source.field, render=source.render))


def _prepared(origins: list[Source], data: DataConfig, report: Watch) -> Path:
    """The folder that holds sources as the recipe wants them prepared."""
    origins = [origin.listed() for origin in origins]
    folder = _folder_of(origins, data)
    if not (folder / DATA_MANIFEST).is_file():
        if not data.val_fraction:
            raise UserError(
                "data.val_fraction = 0: without a validation set nobody can tell whether the model "
                "learns or memorises (R04).",
                fix="Choose data.val_fraction=0.01. If you mean it, prepare the text with "
                "`fromscratch prepare SOURCE --out DATA --no-validation`, and say data.path=DATA.",
                regret="R04",
            )
        options = PrepareOptions(
            tokenizer=data.tokenizer,
            val_fraction=data.val_fraction,
            documents=data.documents,
            dedup=data.dedup,
            seed=data.seed,
        )
        prepare(origins, folder, options, watch=report)
    return folder


def _folder_of(origins: list[Source], data: DataConfig) -> Path:
    """Where sources, which are listed, are prepared as the recipe wants them."""
    whence: list[object] = [[origin.name, origin.spec, origin.stamp()] for origin in origins]
    if len(origins) == 1:
        whence = [origins[0].spec, origins[0].stamp()]
    settings = [*whence, data.tokenizer, data.val_fraction, data.documents, data.seed, data.dedup]
    readings = [origin.reading for origin in origins]
    settings += [[reading.field, reading.render] for reading in readings]
    return folder_for("+".join(origin.name for origin in origins), settings)


def folder_for(name: str, settings: list[object]) -> Path:
    """The folder of prepared data of that name which came about by these settings."""
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return PREPARED / f"{plain[:60]}-{key}"


def _tokenizer_of(parts: list[Part], spec: str) -> Tokenizer:
    """The one tokenizer that made all the data, and that the recipe names."""
    first = parts[0]
    for part in parts:
        _check_tokenizer(part.manifest, spec, part.folder)
        if part.manifest.tokenizer_fingerprint != first.manifest.tokenizer_fingerprint:
            raise UserError(
                f'The sources "{first.name}" and "{part.name}" were prepared with different '
                "tokenizers.",
                fix=f"Prepare one with the other's: --tokenizer {first.folder}.",
            )
    tokenizer = load_tokenizer(first.folder)
    if tokenizer.fingerprint != first.manifest.tokenizer_fingerprint:
        raise UserError(
            f"The tokenizer in {first.folder} is not the one its data was prepared with.",
            fix="Prepare the data again.",
        )
    return tokenizer


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
