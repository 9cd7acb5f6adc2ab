"""What a person is told before a preparation's work begins, and what is watched meanwhile."""

from __future__ import annotations

from pathlib import Path

from fromscratch.data.encoding import Work
from fromscratch.data.hub import HubFile, OnBytes
from fromscratch.data.sources import Portion, Source
from fromscratch.data.watching import Advance, Remark, Watch
from fromscratch.foundation.files import free_bytes
from fromscratch.tokenizer.tokenizer import Tokenizer

# About what text comes to: bytes of it in a token of a large vocabulary, and in a byte of a packed
# file. They are for a warning; nothing is refused because of them.
_BYTES_A_TOKEN = 4.0
_BYTES_A_PACKED_BYTE = {".gz": 3.0, ".zst": 3.0, ".parquet": 1.7}


def announce_far_sources(sources: list[Source], watch: Watch) -> None:
    """Tells what will be read of the hub's data sets and what will not; lets downloads be watched.

    Raises:
        UserError: There is no such data set, or no way there.
    """
    for source in sources:
        if source.hub is None:
            continue
        source.hub.on_bytes = _watched(watch)
        files = source.hub.files()
        n_bytes = sum(file.size for file in files)
        sentence = (
            f"{source.spec}: {len(files):,} files, {n_bytes / 1e6:,.1f} MB, "
            f"at commit {source.hub.revision[:12]}."
        )
        left_out = [f"{what} ({n:,} files)" for what, n in source.hub.left_out.items()]
        if left_out:
            sentence += f" Not read: {', '.join(left_out)}."
        watch(Remark(sentence))


def warn_of_little_room(work: Work, tokenizer: Tokenizer, folder: Path, watch: Watch) -> None:
    """Warns where what is to be written will hardly fit on the disk."""
    per_token = 1.0 if tokenizer.name in ("bytes", "chars") else _BYTES_A_TOKEN
    tokens = sum(_text_bytes(p) / (2.0 if p.tokenised else per_token) for _, p in work)
    needed = tokens * (2 if tokenizer.vocab_size <= 2**16 else 4)
    free = free_bytes(folder)
    if needed > free:
        watch(
            Remark(
                f"{folder} will take about {needed / 1e9:,.1f} GB, and its disk has "
                f"{free / 1e9:,.1f} GB free.",
                is_warning=True,
            )
        )


def _text_bytes(portion: Portion) -> float:
    """About how much text a portion holds."""
    if portion.stretch is not None:  # measured unpacked
        return portion.size
    return portion.size * _BYTES_A_PACKED_BYTE.get(Path(portion.id).suffix.lower(), 1.0)


def _watched(watch: Watch) -> OnBytes:
    def on_bytes(file: HubFile, arrived: int) -> None:
        share = arrived / max(1, file.size)
        watch(Advance("downloading", bytes=arrived, share=share, file=file.path))

    return on_bytes
