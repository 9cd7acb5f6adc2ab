"""Evaluation items that stand in the training text: `doctor DATA --against FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fromscratch.cli.data_verb import fitting, paragraph
from fromscratch.cli.progress import progress, tokens_a_second
from fromscratch.cli.show import out, print_json, say
from fromscratch.foundation.errors import UserError
from fromscratch.report.numerals import percent

if TYPE_CHECKING:
    from fromscratch.data.contamination import Contamination, Finding

_MOST_TOKENS = 500_000_000
_SHOWN = 20


class Part(Enum):
    """A part of an evaluation file."""

    all = "all"
    train = "train"
    test = "test"
    val = "val"


def look_for_items(
    data: Path, against: Sequence[Path], *, part: Part, ngram: int, full: bool, as_json: bool
) -> None:
    """Says which evaluation items stand in the training text; exits with 1 where any does.

    Args:
        data: Prepared data.
        against: Evaluation sets.
        part: Which part of each.
        ngram: Words that must follow one another in both.
        full: Read all text, however large the data.
        as_json: For a program.

    Raises:
        UserError: A file is no evaluation set, or the folder no prepared data.
    """
    from fromscratch.data.contamination import LONGEST, find_contamination
    from fromscratch.data.evaluation_items import load_items

    if not 2 <= ngram <= LONGEST:
        raise UserError(f"--ngram {ngram} is not from 2 to {LONGEST}.", fix="Usual is 13.")
    sets = [load_items(path, part=part.value) for path in against]
    items = [item for items in sets for item in items]
    with progress(tokens_a_second) as report:
        result = find_contamination(
            data,
            items,
            ngram=ngram,
            most_tokens=None if full else _MOST_TOKENS,
            progress=report,
        )
    per_file: list[tuple[Path, Contamination]] = []
    first = 0
    for path, of_file in zip(against, sets, strict=True):
        findings = result.findings[first : first + len(of_file)]
        first += len(of_file)
        per_file.append((path, result.of(findings)))
    if as_json:
        print_json(_as_json(data, per_file))
    else:
        for path, contamination in per_file:
            _print(path, contamination)
        _print_verdict(data, result)
    if result.contaminated:
        raise typer.Exit(1)


def _as_json(data: Path, per_file: list[tuple[Path, Contamination]]) -> dict[str, Any]:
    return {
        "data": str(data),
        "ngram": per_file[0][1].ngram,
        "tokens": per_file[0][1].tokens,
        "looked_at": per_file[0][1].looked_at,
        "files": [
            {
                "file": str(path),
                "items": len(result.findings),
                "too_short": result.too_short,
                "contaminated": len(result.contaminated),
                "share": _share(result),
                "found": [_finding_as_json(f) for f in result.contaminated],
            }
            for path, result in per_file
        ],
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "item": finding.item.where,
        "text": finding.item.text,
        "ngrams": finding.grams,
        "ngrams_found": finding.found,
        "passages": [asdict(p) for p in finding.passages],
    }


def _share(result: Contamination) -> float:
    """Contaminated items among those that could be looked for."""
    compared = len(result.findings) - result.too_short
    return len(result.contaminated) / compared if compared else 0.0


def _print(path: Path, result: Contamination) -> None:
    found = result.contaminated
    short = f", {result.too_short:,} of them too short to look for" if result.too_short else ""
    paragraph(
        f"{path}: {len(result.findings):,} items{short}; "
        f"{len(found):,} ({percent(_share(result))}) in the training text"
    )
    for finding in found[:_SHOWN]:
        say()
        say(f"{finding.item.where}: {finding.found:,} of {finding.grams:,} n-grams found")
        for passage in finding.passages:
            say(f"  {passage.words:,} words in {passage.place} ({passage.place.source})")
            say(f"    training: {fitting(passage.training, out.width - 14)}")
            say(f"    item:     {fitting(passage.item, out.width - 14)}")
    if len(found) > _SHOWN:
        say(f"... and {len(found) - _SHOWN:,} more items; --json has them all")
    say()


def _print_verdict(data: Path, result: Contamination) -> None:
    where = (
        "all training documents"
        if result.looked_at >= 1.0
        else f"{percent(result.looked_at)} of the training tokens, evenly spread"
    )
    paragraph(f"Looked through {where}: {result.tokens:,} tokens, {result.ngram} words at a time.")
    if result.contaminated:
        paragraph(
            "warning (R16): a score on these items would measure memory. Remove the documents "
            "named above and prepare again, or leave these items out of the evaluation."
        )
    elif result.looked_at >= 1.0:
        say(f"{data} is clean of these items.")
    else:
        say("None was found there; --full looks through everything.")
