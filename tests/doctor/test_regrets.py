"""The list of regrets: complete, in order, and found by what people type."""

import subprocess
import sys

import pytest

from fromscratch.doctor.regrets import REGRETS, regret_named
from fromscratch.foundation.errors import UserError


def test_every_number_is_there_once_and_in_order():
    assert [regret.id for regret in REGRETS] == [f"R{n:02d}" for n in range(1, 58)]


@pytest.mark.parametrize("name", ["R05", "r05", "R5", "5", " r5 "])
def test_a_regret_is_found_as_people_write_it(name: str):
    assert regret_named(name).id == "R05"


@pytest.mark.parametrize("name", ["R58", "0", "", "RR5", "overfitting", "²"])
def test_another_name_is_refused_with_the_range(name: str):
    with pytest.raises(UserError, match="R01 to R57"):
        regret_named(name)


def test_explaining_needs_no_torch():
    code = "import sys, fromscratch.doctor.regrets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
