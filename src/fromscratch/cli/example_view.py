"""One training example as a person can check it: what is given, and what is learned (R50)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from fromscratch.cli.show import err

_MOST = 2_000  # characters


def show_example(what: str, stretches: Sequence[tuple[str, bool]]) -> None:
    """Prints an example: learned stretches coloured on a terminal, between marks elsewhere.

    Args:
        what: It is.
        stretches: Text, and whether it is learned.
    """
    shown = Text()
    for text, is_learned in _shortened(stretches):
        if err.is_terminal and not err.no_color:
            shown.append(text, style="bold green" if is_learned else "dim")
        else:
            shown.append(f"«{text}»" if is_learned else text)
    how = "what is learned is green" if err.is_terminal and not err.no_color else "«learned»"
    err.print(f"{what}, {how}:", style="bold")
    err.print(shown)
    err.print()


def _shortened(stretches: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """A long example without the middle of its stretches: where each begins and ends matters."""
    if sum(len(text) for text, _ in stretches) <= _MOST:
        return list(stretches)
    most = max(40, _MOST // len(stretches))
    half = most // 2
    return [
        (text if len(text) <= most else f"{text[:half]} ... {text[-half:]}", is_learned)
        for text, is_learned in stretches
    ]
