"""What a page of the documentation asks its reader to type.

A fenced block `console` is run line by line. `console not-run` needs a network or hours: its
options and recipes are checked, and nothing is run. `console exit=1` ends with that code. `console
until-stopped` says an address, and goes on until Ctrl-C.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in ("docs/*.md", "docs/how-to/*.md")
        for path in ROOT.glob(pattern)
    ),
]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, word by word, and the lines."""

    words: tuple[str, ...]
    text: str

    @property
    def exit_code(self) -> int:
        said = [word.removeprefix("exit=") for word in self.words if word.startswith("exit=")]
        return int(said[0]) if said else 0


def blocks(page: str, language: str) -> list[Block]:
    """The page's blocks of a language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(tuple(words.split()), body) for name, words, body in found if name == language]


def commands(page: str, *, run: bool = True) -> list[tuple[str, int]]:
    """The commands to run to their end, with their exit codes; or those to be checked only."""
    return [
        (line.split("  #")[0].strip(), block.exit_code)
        for block in blocks(page, "console")
        if ("not-run" not in block.words) == run and "until-stopped" not in block.words
        for line in block.text.strip().split("\n")
    ]


def save_files(page: str, place: Path, shorter: Mapping[str, str]) -> None:
    """Writes the files that a page shows, made shorter: blocks whose first line is `# NAME`."""
    for language in ("toml", "python"):
        for block in blocks(page, language):
            if found := re.match(r"# (\S+\.\w+)\n", block.text):
                text = block.text
                for long, short in shorter.items():
                    text = text.replace(long, short)
                (place / found[1]).write_text(text, encoding="utf-8")
