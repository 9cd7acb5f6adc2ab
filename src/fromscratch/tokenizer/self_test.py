"""Texts on which two ways of encoding would differ, if they differ at all.

Run before a fast engine is trusted. It is fast enough to be run at every start: about a thousand
texts and, for engines with Unicode tables of their own, one text for each code point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fromscratch.tokenizer.engines import Engine, parted

_CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "\u2019s", "'"]
_BLANKS = [" ", "\n", "\t", "\r", "\r\n", "\u00a0", "\u2028", "\u2029", "\u3000", "\u0085", "\x0b"]
_WORDS = [
    *("a", "the", "The", "THE", "word", "don", "x1", "na\u00efve", "cafe\u0301", "\ufb01ne"),
    *("\u1e9e", "\u0130stanbul", "\u017f", "\u4f60\u597d\u4e16\u754c", "\u3053\u3093\u306b"),
    *("\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd", "\u0928\u092e\u0938\u094d"),
    *("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\uc548\ub155", "\u041f\u0440\u0438"),
]
_NUMBERS = ["0", "12", "123", "1234", "3.14", "\u0664\u0665", "\u2167", "\u00bd", "\u00b2", "1e-5"]
_SIGNS = [
    *("!", "...", "?!", "--", "==", "(", ")", "{}", "<|endoftext|>", "<|im_start|>", "</s>", "_"),
    *("\x00", "\x7f", "\ufeff", "\u200b", "\u200d", "\ufffd", "\ue000", "\U0010ffff", "\u0301"),
    *("\U0001f600", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"),
    *("\u2014", "\u20ac", "\u2603\ufe0f", "\U000e0061", "\u202e", "\u00ad"),
]
_CODE = [
    "def f(x, *, y=None):\n    return x + 1  # ok\n\n\n\tpass\n",
    'if (a != b) {\r\n\t\tprintf("%s\\n", a->b[0]);\r\n}\r\n',
    "https://example.org/a?b=c&d=%20#e user@example.org C:\\x\\y",
    "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ= 0xDEADBEEF 1_000_000 snake_case camelCase",
]
_LENGTHS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 500, 4097)
_SAMPLE_STEP = 16


def nasty_texts() -> list[str]:
    """Every pair of kinds side by side, with and without a blank; runs; code; empty text."""
    items = [*_CONTRACTIONS, *_BLANKS, *_WORDS, *_NUMBERS, *_SIGNS]
    texts = ["", *_CODE]
    for left in items:
        texts.append(left)
        texts.append("".join(left + right for right in items))
        texts.append("".join(f"{left} {right}" for right in items))
        texts.append("".join(f"{left}  {right}\n" for right in items))
    for character in (*_BLANKS, "a", "Z", "\u00e9", "7", "!", "'", "\u4f60", "\U0001f600", "ab "):
        texts += [character * n for n in _LENGTHS]
        texts += [f"x{character * n}y" for n in _LENGTHS]
        texts += [f" {character * n} z" for n in _LENGTHS]
    return texts


def first_difference(one: Engine, other: Engine, texts: Sequence[str]) -> str | None:
    """The first text for which two engines give different ids, or None."""
    mine, theirs = one.encode_ragged(texts), other.encode_ragged(texts)
    if np.array_equal(mine[0], theirs[0]) and np.array_equal(mine[1], theirs[1]):
        return None
    pairs = zip(texts, parted(mine), parted(theirs), strict=True)
    return next(text for text, a, b in pairs if not np.array_equal(a, b))


def code_points_that_differ(one: Engine, other: Engine) -> list[str]:
    """The characters that two engines take for different kinds of character.

    A letter before `'s` leaves it whole, a sign takes its apostrophe away, so the ids show what a
    code point was taken for. Engines differ where they know different versions of Unicode. Planes
    that hold no characters yet, or private ones, are looked at in every sixteenth place, which is
    how far apart new scripts begin.
    """
    blocks = list(_blocks())
    texts = ["'s".join([*block, ""]) for block in blocks]
    differing: list[str] = []
    mine, theirs = (parted(engine.encode_ragged(texts)) for engine in (one, other))
    for block, a, b in zip(blocks, mine, theirs, strict=True):
        if not np.array_equal(a, b):
            each = [f"{c}'s" for c in block]
            alone, beside = (parted(engine.encode_ragged(each)) for engine in (one, other))
            differing += [
                c for c, x, y in zip(block, alone, beside, strict=True) if not np.array_equal(x, y)
            ]
    return differing


def _blocks(size: int = 256) -> Iterator[list[str]]:
    """Code points in order, 256 positions at a time; lone surrogates are no characters."""
    for start in range(0, 0x110000, size):
        if 0xD800 <= start < 0xE000:
            continue
        thin = 0x40000 <= start < 0xE0000 or start >= 0xF0000
        points = range(start, start + size, _SAMPLE_STEP if thin else 1)
        yield list(map(chr, points))
