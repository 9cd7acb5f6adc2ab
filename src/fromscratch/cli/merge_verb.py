"""`fromscratch data merge`: parts that several processes prepared, as one."""

from __future__ import annotations

import shlex
from pathlib import Path

from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.prepare_verb import show, show_as_json
from fromscratch.cli.show import say
from fromscratch.cli.vocabulary import argument, option


def merge(
    parts: list[Path] = argument("PART"),
    to: Path = option("out", ..., of="the whole's folder"),
    overwrite: bool = option("overwrite", False),
    as_json: bool = option("json", False),
) -> None:
    """Joins parts into the very bytes that one process would have written.

    Example: fromscratch data merge part-0 part-1 --out prepared/whole
    """
    from fromscratch.data.merge import merge as join

    with documents_progress("the same command does it from the beginning") as watch:
        made = join(parts, to, overwrite=overwrite, watch=watch)
    if as_json:
        show_as_json(made)
        return
    show(made)
    say()
    say(f"Joined {len(parts)} parts in {to}. Look at it:")
    say(f"  fromscratch data show {shlex.quote(str(to))}")
