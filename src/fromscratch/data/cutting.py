"""Text cut into documents: passages of about 4,000 characters, or paragraphs.

In: a text as an iterator of blocks of any size. Out: the pieces, in order, which do not depend on
the size of the blocks. No more is held than a few passages, or a paragraph, and a block; a piece
that would grow beyond `limit` characters is bad input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fromscratch.data.reading import BadInput

# Passages: long enough that end-of-text is rare, short enough that 1% of a book is several.
PASSAGE_CHARACTERS = 4_000


def cut_into_passages(blocks: Iterable[str], limit: int) -> Iterator[str]:
    """Cuts at blank lines into passages of about 4,000 characters; joined, they are the text.

    For text that comes as one or few files, so that some of it can be held out: passages of every
    part of the text fall on both sides, where a tail would be a different chapter (R05). Blank
    space at the text's very end is no passage of its own.

    Raises:
        BadInput: More than `limit` characters of nothing but white space.
    """
    coming = iter(blocks)
    text, at_end = "", False
    while True:
        # A cut is decided by two passages' worth of text, and by whether more than blanks follow.
        while not at_end and len(text) <= 2 * PASSAGE_CHARACTERS:
            text, at_end = _longer(text, coming)
        start = 0
        while len(text) - start > 2 * PASSAGE_CHARACTERS or (at_end and start < len(text)):
            end = _end_of_passage(text, start)
            if end < len(text) and not _blank_from(text, end):
                yield text[start:end]
                start = end
            elif at_end:
                yield text[start:]
                return
            else:
                break
        text = text[start:]
        if at_end:
            return
        if len(text) > limit:
            raise BadInput("", f"more than {limit:,} characters of white space")
        text, at_end = _longer(text, coming)


def cut_into_paragraphs(blocks: Iterable[str], limit: int) -> Iterator[str]:
    """What stands between lines that are blank (empty or white space), without those lines.

    A paragraph keeps its own lines as they are, but for the last one's end.

    Raises:
        BadInput: A paragraph of more than `limit` characters.
    """
    held: list[str] = []  # the paragraph's text so far, whole lines
    rest: list[str] = []  # the line's text so far, in the pieces it came in
    size = 0  # of both
    for block in blocks:
        *ended, unfinished = block.split("\n")
        for piece in ended:
            line = "".join((*rest, piece))
            rest.clear()
            if line.strip():
                held.append(line)
                size += len(piece) + 1
            else:
                if held:
                    yield "\n".join(held)
                held.clear()
                size = 0
        rest.append(unfinished)
        size += len(unfinished)
        if size > limit:
            raise BadInput("", f"a paragraph of more than {limit:,} characters")
    line = "".join(rest)
    if line.strip():
        held.append(line)
    if held:
        yield "\n".join(held)


def _longer(text: str, coming: Iterator[str]) -> tuple[str, bool]:
    """The text with the next block at its end, and whether there was none."""
    block = next(coming, None)
    return (text, True) if block is None else (text + block, False)


def _blank_from(text: str, start: int) -> bool:
    """Whether nothing but white space stands from `start` on."""
    for begin in range(start, len(text), PASSAGE_CHARACTERS):
        if not text[begin : begin + PASSAGE_CHARACTERS].isspace():
            return False
    return True


def _end_of_passage(text: str, start: int) -> int:
    """Where the passage from `start` on ends: past blank lines, else past a line, else at 4,000.

    The search goes one more passage far; a text without line ends is cut where wanted.
    """
    wanted = start + PASSAGE_CHARACTERS
    if len(text) <= wanted:
        return len(text)
    limit = min(len(text), wanted + PASSAGE_CHARACTERS)
    for separator in ("\n\n", "\n"):
        found = text.find(separator, wanted, limit)
        if found >= 0:
            end = found + len(separator)
            while end < limit and text[end] == "\n":
                end += 1
            return end
    return wanted
