"""Makes docs/regrets.md of the regrets and their proofs: `python -m tests.doctor.regrets_page`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fromscratch.doctor.regret import Regret
from fromscratch.doctor.regrets import AREAS, REGRETS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "regrets.md"
PROOFS = Path(__file__).with_name("proofs.toml")

_INTRO = """\
# What people regret, and what is done about it

{number} mistakes that cost people days when they train a language model at home: from the reports
of five systems' authors, from what their code and logs show, and from the issues of the trainers
that are used today. Here each is one of

- **impossible**: the design rules it out;
- **refused**: an error before anything is spent;
- **warned**: `fromscratch doctor`, and the start of a run, say it with what to do;
- **recovered**: the run survives it.

Each has a test that shows it, named below; `doctor` in the table: `fromscratch doctor` has a check
that looks for it in your recipe, data, run or model. `fromscratch doctor --explain R15` says in the
terminal what this page says.

This page is made from the code, and a test fails where a regret has no proof, where a test that is
named does not exist, or where the doctor has no check that is promised.
"""


@dataclass(frozen=True)
class Proof:
    """What holds a regret's verdict.

    Attributes:
        tests: Pytest's node ids.
        check: Whether the doctor looks for it.
    """

    tests: tuple[str, ...]
    check: bool


def proofs() -> dict[str, Proof]:
    """The proofs, by regret."""
    content = tomllib.loads(PROOFS.read_text("utf-8"))
    return {
        name: Proof(tuple(entry.pop("tests")), entry.pop("check", False), **entry)
        for name, entry in content.items()
    }


def page() -> str:
    """docs/regrets.md."""
    held = proofs()
    parts = [_INTRO.format(number=len(REGRETS))]
    for area, regrets in AREAS.items():
        parts.append(f"## {area}\n")
        parts.append("| | what people regret | here | |\n|---|---|---|---|")
        parts += [_row(regret, held[regret.id]) for regret in regrets]
        parts.append("")
        parts += [_story(regret, held[regret.id]) for regret in regrets]
    return "\n".join(parts).rstrip() + "\n"


def _row(regret: Regret, proof: Proof) -> str:
    link = f"[{regret.id}](#{regret.id.lower()})"
    doctor = "`doctor`" if proof.check else ""
    return f"| {link} | {_plain(regret.title)} | {', '.join(regret.verdicts)} | {doctor} |"


def _story(regret: Regret, proof: Proof) -> str:
    lines = [
        f"### {regret.id}",
        "",
        f"**{_plain(regret.title)}.** {_plain(regret.story)}",
        "",
        f"*Here*: {_plain(regret.here)}",
        "",
    ]
    for file, tests in groupby(proof.tests, key=lambda test: test.split("::")[0]):
        names = ", ".join(f"`{test.split('::', 1)[1]}`" for test in tests)
        lines.append(f"- `{file}`: {names}")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, but for code between backticks."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for mark in "\\<>*_[]|":
            parts[i] = parts[i].replace(mark, "\\" + mark)
    return "`".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
