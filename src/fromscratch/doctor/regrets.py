"""The regrets that this package was built against, R01 to R57, in one list.

What comes out: `REGRETS`, in the order of their numbers, and `regret_named`. The doctor explains
them (`fromscratch doctor --explain R15`), docs/regrets.md is made from them, and a test holds that
each has the test, or the check, that its verdict promises. No torch.
"""

from __future__ import annotations

from fromscratch.doctor.regret import Regret
from fromscratch.doctor.regrets_of_data import DATA
from fromscratch.doctor.regrets_of_judging import JUDGING
from fromscratch.doctor.regrets_of_models import MODELS
from fromscratch.doctor.regrets_of_runs import RUNS
from fromscratch.doctor.regrets_of_serving import SERVING
from fromscratch.foundation.errors import UserError, did_you_mean

AREAS: dict[str, tuple[Regret, ...]] = {
    "Data": DATA,
    "Model and numbers": MODELS,
    "Runs": RUNS,
    "Judging": JUDGING,
    "Finetuning and serving": SERVING,
}
"""The regrets by what they are about."""

REGRETS: tuple[Regret, ...] = tuple(regret for area in AREAS.values() for regret in area)
"""All of them, in the order of their numbers."""


def regret_named(name: str) -> Regret:
    """The regret that a person means.

    Args:
        name: Its id, as `R15`, `r15`, `15` or `R5`.

    Raises:
        UserError: There is none of that name.
    """
    bare = name.strip().upper().removeprefix("R")
    wanted = f"R{int(bare):02d}" if bare.isdecimal() and bare.isascii() else name
    for regret in REGRETS:
        if regret.id == wanted:
            return regret
    known = [regret.id for regret in REGRETS]
    raise UserError(
        f'There is no regret "{name}".{did_you_mean(wanted.upper(), known)}',
        fix=f"They are {known[0]} to {known[-1]}; docs/regrets.md lists them.",
    )
