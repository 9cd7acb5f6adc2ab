"""What was typed, and what was probably meant: one message, and the line to type instead.

In: what typer cannot read, the words of the command line. Out: a `UserError` in the words of all
others. Nothing is guessed and run: a line that was mistyped is answered, not corrected in silence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from typer import TyperException
from typer.core import TyperGroup

from fromscratch.foundation.errors import UserError, did_you_mean

PROGRAM = "fromscratch"

# What other programs call what we have, and what people type first.
_ELSEWHERE = {
    "pretrain": "train",
    "fit": "train",
    "finetune": "train sft-110 --from MODEL",
    "sft": "train sft-110 --from MODEL",
    "dpo": "train dpo --from MODEL",
    "continue": "resume",
    "evaluate": "eval",
    "benchmark": "bench",
    "convert": "export",
    "download": "prepare hf:ORG/NAME --out DATA",
    "preprocess": "prepare",
    "tokenize": "prepare",
    "sample": "generate",
    "complete": "generate",
    "infer": "generate",
    "check": "doctor",
    "tune": "sweep",
    "demo": "try",
    "init": "try",
    "version": "--version",
}
_TAKES_OVERRIDES = ("overrides", "settings")


def unknown_verb(path: str, typed: Sequence[str], known: Sequence[str]) -> UserError:
    """A verb that is not there.

    Args:
        path: What stands before it: the program, and a group.
        typed: It, and what follows it.
        known: The verbs there are.
    """
    word, *rest = typed
    what = f'There is no verb "{word}".'
    if path != PROGRAM:
        what = f'{path} has no verb "{word}".'
    if path == PROGRAM and word == "help":
        verb = [w for w in rest[:1] if w in known]
        return UserError(what, fix=shlex.join([path, *verb, "--help"]))
    other = _ELSEWHERE.get(word, "") if path == PROGRAM else ""
    if other and (other.startswith("-") or other.split()[0] in known):
        return UserError(what, fix=shlex.join([*path.split(), *other.split()]))
    hint = did_you_mean(word, known)
    if hint:
        meant = hint.split('"')[1]
        return UserError(f"{what}{hint}", fix=shlex.join([*path.split(), meant, *rest]))
    return UserError(what, fix=f"{path} --help lists them all.")


def mistake(error: TyperException, typed: Sequence[str], root: Any) -> UserError:
    """What typer found wrong with a line, in our words.

    Args:
        error: Its finding.
        typed: The words after the program's name.
        root: The program's own command, with all verbs.
    """
    ctx: Any = getattr(error, "ctx", None)
    param: Any = getattr(error, "param", None)
    option: str | None = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return _unknown_option(option, typed, ctx, root)
    if option is not None:
        lacks = "requires" in error.message
        what = f"{option} lacks its value." if lacks else f"{option} takes no value."
        return UserError(what, fix=_shown(option, typed, root))
    if ctx is None or isinstance(ctx.command, TyperGroup):
        return UserError(_sentence(error.format_message()), fix=f"{PROGRAM} --help")
    if param is not None and hasattr(error, "param_type"):
        return _missing(param, ctx)
    if param is not None:
        return _bad_value(error, param, typed)
    extra = re.search(r"extra argument\(s\) \((.*)\)", error.message)
    if extra is not None:
        return UserError(
            f'{ctx.command_path} takes no "{extra[1]}" there.',
            fix=f"Text with blanks goes in quotes. {_example(ctx)}".strip(),
        )
    return UserError(_sentence(error.format_message()), fix=_example(ctx) or None)


def _unknown_option(name: str, typed: Sequence[str], ctx: Any, root: Any) -> UserError:
    verb = ctx.command_path
    what = f"{verb} has no option {name}."
    place = next((i for i, w in enumerate(typed) if w.split("=")[0] == name), None)
    takes_overrides = any(p.name in _TAKES_OVERRIDES for p in ctx.command.params)
    if place is not None and takes_overrides and (key := _key_meant(name)):
        after = list(typed[place + 1 :])
        value = typed[place].partition("=")[2]
        if "=" not in typed[place] and after:
            value = after.pop(0)
        meant = [*typed[:place], f"{key}={value}", *after]
        return UserError(
            f"{what} {key} is a key of the recipe, and is typed without hyphens.",
            fix=shlex.join([PROGRAM, *meant]),
        )
    own = [o for p in ctx.command.get_params(ctx) if p.param_type_name == "option" for o in p.opts]
    hint = did_you_mean(name.lstrip("-"), [o.lstrip("-") for o in own if o.startswith("--")])
    if hint and place is not None:
        meant_option = f"--{hint.split(chr(34))[1]}"
        changed = typed[place].replace(name, meant_option, 1)
        meant = [*typed[:place], changed, *typed[place + 1 :]]
        return UserError(
            f'{what} Did you mean "{meant_option}"?', fix=shlex.join([PROGRAM, *meant])
        )
    elsewhere = _verbs_with(name, root)
    if elsewhere:
        others = ", ".join(elsewhere[:4]) + (", ..." if len(elsewhere) > 4 else "")
        return UserError(f"{what} These have it: {others}.", fix=f"{verb} --help")
    return UserError(what, fix=f"{verb} --help lists those it has.")


def _verbs_with(option: str, root: Any) -> list[str]:
    """The verbs that have an option, as they are typed."""
    from fromscratch.cli.verb_group import all_verbs

    verbs = all_verbs(root)
    return [name for name, verb in verbs.items() if any(option in p.opts for p in verb.params)]


def _key_meant(option: str) -> str | None:
    """The key of a recipe that somebody made an option of: `--lr`, `--model.n-layer`."""
    from fromscratch.runs.recipe_keys import recipe_keys

    word = option.lstrip("-").replace("-", "_")
    keys = list(recipe_keys())
    if word in keys:
        return word
    last = [key for key in keys if key.rpartition(".")[2] == word]
    if last:
        return last[0]
    if "." in word:
        hint = did_you_mean(word, keys)
        return hint.split('"')[1] if hint else None
    return None


def _missing(param: Any, ctx: Any) -> UserError:
    name = param.opts[0] if param.param_type_name == "option" else param.metavar or param.name
    words = (param.help or "").strip()
    if not words[1:2].isupper():  # an abbreviation stays as it is
        words = words[:1].lower() + words[1:]
    return UserError(f"{ctx.command_path} needs {name}: {words}", fix=_example(ctx) or None)


def _bad_value(error: TyperException, param: Any, typed: Sequence[str]) -> UserError:
    name = param.opts[0] if param.param_type_name == "option" else param.metavar or param.name
    given = _given(param, typed)
    shown = name if given is None else f"{name} {given}"
    choices = [str(getattr(c, "value", c)) for c in param.type_descriptor.choices or ()]
    if choices:
        hint = did_you_mean(given or "", choices)
        return UserError(
            f"{shown}: there is no such choice.{hint}", fix=f"One of {', '.join(choices)}."
        )
    message = error.message.removeprefix("Value error, ").split(", unable to parse")[0]
    for theirs, ours in (
        ("Input should be a valid integer", "that is not a whole number"),
        ("Input should be a valid number", "that is not a number"),
        ("Input should be greater than or equal to", "the least is"),
        ("Input should be less than or equal to", "the most is"),
        ("Input should be greater than", "that is not greater than"),
    ):
        message = message.replace(theirs, ours)
    return UserError(_sentence(f"{shown}: {message}"))


def _given(param: Any, typed: Sequence[str]) -> str | None:
    """The value that was typed for an option, the last time."""
    found = None
    for word, following in zip(typed, [*typed[1:], ""], strict=True):
        for name in param.opts:
            if word == name:
                found = following
            elif word.startswith(f"{name}="):
                found = word.removeprefix(f"{name}=")
            elif len(name) == 2 and word.startswith(name):
                found = word.removeprefix(name)
    return found


def _shown(option: str, typed: Sequence[str], root: Any) -> str:
    """An option as the help of the verb that was typed shows it."""
    command, path = root, [PROGRAM]
    for word in typed:
        if isinstance(command, TyperGroup) and word in command.commands:
            command = command.commands[word]
            path.append(word)
    for param in command.params:
        if option in param.opts:
            name = f"{option} {param.metavar}" if param.metavar else option
            return f"{name}: {param.help}"
    return f"{' '.join(path)} --help"


def _example(ctx: Any) -> str:
    from fromscratch.cli.verb_group import example_of

    example = example_of(ctx.command)
    return f"Example: {example}" if example else f"{ctx.command_path} --help"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
