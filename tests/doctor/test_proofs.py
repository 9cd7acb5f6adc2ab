"""Every regret has the proof that its verdict promises, and the page says which."""

import ast
from functools import cache
from pathlib import Path

import pytest

from fromscratch.doctor.checks import all_checks
from fromscratch.doctor.regrets import REGRETS
from tests.doctor.regrets_page import PAGE, ROOT, page, proofs


@cache
def names_in(path: Path) -> tuple[set[str], set[str]]:
    """Names of a file's tests, `Class::test` inside a class; and all strings in it."""
    tree = ast.parse(path.read_text("utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            inside = [f.name for f in node.body if isinstance(f, ast.FunctionDef)]
            names |= {f"{node.name}::{name}" for name in inside}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    strings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return names, strings


def is_a_test(node_id: str) -> bool:
    """Whether pytest would find it: the file, the function, and the parameters' name."""
    place, _, parameters = node_id.partition("[")
    file, _, name = place.partition("::")
    if not (ROOT / file).is_file() or not Path(file).name.startswith("test_"):
        return False
    names, strings = names_in(ROOT / file)
    known = not parameters or parameters.removesuffix("]") in strings
    return name in names and name.split("::")[-1].startswith("test_") and known


@pytest.mark.parametrize(
    ("node_id", "known"),
    [
        ("tests/doctor/test_proofs.py::test_a_name_that_is_no_test_is_seen", True),
        ("tests/doctor/test_proofs.py::is_a_test", False),
        ("tests/doctor/test_proofs.py::test_that_nobody_wrote", False),
        ("tests/doctor/test_nowhere.py::test_a_name_that_is_no_test_is_seen", False),
        ("tests/data/test_sources.py::TestSplit::test_a_function_of_content_alone", True),
        ("tests/data/test_sources.py::test_a_function_of_content_alone", False),
        ("tests/cli/test_mistakes.py::test_a_mistake_is_answered_with_its_fix[unknown verb]", True),
        ("tests/cli/test_mistakes.py::test_a_mistake_is_answered_with_its_fix[no such]", False),
    ],
)
def test_a_name_that_is_no_test_is_seen(node_id: str, known: bool):
    assert is_a_test(node_id) == known


def test_every_regret_has_tests_that_exist():
    held = proofs()
    assert list(held) == [regret.id for regret in REGRETS]
    assert not [name for name, proof in held.items() if not proof.tests]
    assert not [test for proof in held.values() for test in proof.tests if not is_a_test(test)]


def test_the_doctor_looks_for_what_is_warned_of():
    held = proofs()
    warned = [regret.id for regret in REGRETS if "warned" in regret.verdicts]
    assert not [name for name in warned if not held[name].check]
    promised = {name for name, proof in held.items() if proof.check}
    assert promised == {check.id for check in all_checks()} - {""}


def test_the_page_is_made_from_this():
    """After a change: `python -m tests.doctor.regrets_page`."""
    assert PAGE.read_text("utf-8") == page()
