"""All verbs speak one language: one name means one thing, and one thing has one name."""

import re
import shlex
from collections import defaultdict

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from fromscratch.cli.main import app
from fromscratch.cli.verb_group import SECTIONS, all_verbs, example_of
from fromscratch.cli.vocabulary import ARGUMENTS, OPTIONS

ROOT = get_command(app)
VERBS = all_verbs(ROOT)
NOT_OURS = {"--help", "-h"}


def options():
    """Every option of every verb: the verb, its name, and what typer knows of it."""
    return [
        (verb, param.opts[0], param)
        for verb, command in VERBS.items()
        for param in command.params
        if param.param_type_name == "option" and param.opts[0] not in NOT_OURS
    ]


def kind(param) -> object:
    """What is typed for it; of choices, that they are choices."""
    descriptor = param.type_descriptor
    return "choices" if descriptor.is_choice else descriptor.annotation


@pytest.mark.parametrize(("verb", "name", "param"), options())
def test_an_option_is_of_the_vocabulary(verb: str, name: str, param):
    word = OPTIONS.get(name.removeprefix("--"))
    assert word is not None, "made by hand: declare it in cli/vocabulary.py"
    assert param.help.startswith(word.means.removesuffix(".")), "it means something else here"
    assert param.metavar in (word.metavar or None, "NAMES")
    assert "[" not in param.help.replace("[:CONFIG]", ""), "a default is shown by show_default"


def test_one_name_takes_one_kind_of_value():
    # A list is what its members are; bench tries several, parted by commas.
    several = {("--precision", "bench"), ("--data", "eval")}
    kinds = defaultdict(set)
    for verb, name, param in options():
        if (name, verb) not in several:
            kinds[name].add(kind(param))
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_one_thing_has_one_name():
    said = [word.means for word in OPTIONS.values()]
    assert len(set(said)) == len(said)
    # What other programs call what has a name here.
    foreign = {"output", "max-tokens", "num-samples", "json-output", "png", "items", "lr", "gpu-id",
               "output-dir", "out-dir", "model-dir", "verbose", "batch", "random-seed"}  # fmt: skip
    assert not foreign & set(OPTIONS)


def test_every_word_is_spoken():
    spoken = {name.removeprefix("--") for _, name, _ in options()}
    assert set(OPTIONS) - spoken <= {"explain", "budget"}, "declared, and of no verb"


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_are_of_the_vocabulary(verb: str):
    means = [word.means.removesuffix(".") for word in ARGUMENTS.values()]
    for param in VERBS[verb].params:
        if param.param_type_name == "argument":
            assert param.metavar == param.metavar.upper()
            assert any(param.help.startswith(m) for m in means), param.help


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_in_the_help_is_read_by_the_verb(verb: str):
    example = example_of(VERBS[verb])
    assert example is not None
    program, *words = shlex.split(example)
    assert program == "fromscratch"
    command, context = ROOT, None
    while True:
        context = command.make_context(command.name, words, parent=context)
        if not isinstance(command, TyperGroup):
            break
        words = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, words)
    assert command is VERBS[verb]


def test_help_leads_a_newcomer_along_the_path(capsys: pytest.CaptureFixture[str]):
    from fromscratch.cli.main import main

    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    said = capsys.readouterr().out
    order = ["try", "prepare", "plan", "train", "resume", "report", "eval", "generate", "chat"]
    places = [re.search(rf"^  {verb} ", said, re.MULTILINE).start() for verb in order]
    assert places == sorted(places)
    told = [verb for verbs in SECTIONS.values() for verb in verbs]
    assert sorted(told) == sorted(set(told))
    assert set(ROOT.commands) <= set(told), "a verb without a section"
    assert "More:" not in said
    assert all(len(line) <= 80 for line in said.split("\n"))
