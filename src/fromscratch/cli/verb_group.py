"""How verbs are shown: the list of all, in the order in which a newcomer needs them, and each one.

In: verbs as typer makes them of functions. Out: plain help, the same in a pipe, in CI and on a
phone. A verb that stands in no section is shown all the same, under "More".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fromscratch.cli.mistypes import unknown_verb
from fromscratch.cli.show import no_more_to

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Start here": {
        "try": "train a small model in two minutes, on text that is here",
    },
    "Text": {
        "prepare": "text of any kind into token shards",
        "data": "look into prepared data, join parts of it",
        "tokenizer": "train, compare and inspect tokenizers",
    },
    "Before a run": {
        "plan": "parameters, memory, hours and money of a recipe",
        "scale": "which size and how many tokens, found by small runs",
        "bench": "how fast a recipe trains on this machine",
        "doctor": "the classic mistakes, each with its fix",
    },
    "Training": {
        "train": "a recipe into a run; --from MODEL finetunes",
        "resume": "a run goes on exactly where it stood",
        "sweep": "many small runs: which setting is best",
        "watch": "the report of runs under way, in the browser",
        "report": "runs as one page, which opens offline",
    },
    "How good it is": {
        "eval": "loss on any text, HellaSwag, CORE, lm-evaluation-harness",
        "judge": "a language model scores answers from 0 to 100",
    },
    "Using it": {
        "generate": "continue a prompt",
        "chat": "talk with a model",
        "serve": "OpenAI's API, and a page to chat in",
        "export": "for transformers, llama.cpp, or a Hugging Face Space",
    },
    "From elsewhere": {
        "import": "another trainer's checkpoint as a model",
        "logs": "another trainer's logs as a run",
        "env": "what a bug report needs",
    },
}
"""The verbs in order, each with a line. Those that are not there are passed over."""

_TYPE = re.compile(r" <[^>]*>$")
_WORKED_OUT = re.compile(r"\[default: \((.*)\)((?:; [^\]]*)?)\]")


class Verb(TyperCommand):
    """A verb whose arguments are shown by their names alone, in capitals."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands in the line of usage."""
        return [re.sub(r"\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments without the type in Python, which is nothing to whoever types them."""
        records: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            name, words = record
            words = _WORKED_OUT.sub(r"[default: \1\2]", words)
            if param.param_type_name == "argument":
                records["Arguments"].append((_TYPE.sub("", name), words))
            else:
                records["Options"].append((name, words))
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Verbs(TyperGroup):
    """Verbs: those of the program, or of one like `data`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is meant.

        Raises:
            UserError: There is none; the line as it was probably meant.
        """
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise unknown_verb(ctx.command_path, args, list(self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; that nobody reads its answer to the end (`| head`) is no failure."""
        with _unread():
            return super().invoke(ctx)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Reads the options before the verb; --help is answered here."""
        with _unread():
            return super().make_context(*arguments, **more)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs by section; of a group that has none, one list."""
        there = {n: c for n, c in self.commands.items() if not c.hidden}
        sections: dict[str, dict[str, str]] = {}
        if ctx.parent is None:
            for title, verbs in SECTIONS.items():
                sections[title] = {n: words for n, words in verbs.items() if there.pop(n, None)}
        rest = {name: command.get_short_help_str(200) for name, command in there.items()}
        sections["More" if ctx.parent is None else "Verbs"] = rest
        width = max(len(name) for verbs in sections.values() for name in verbs)
        for title, verbs in sections.items():
            if verbs:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), verbs[name]) for name in verbs])


@contextmanager
def _unread() -> Iterator[None]:
    """Ends in peace where the reader of standard output has gone."""
    try:
        yield
    except BrokenPipeError:
        no_more_to(sys.stdout)
        raise typer.Exit(0) from None


class Verbal(typer.Typer):
    """A typer whose verbs are `Verb`, told plainly, and whose mistakes are ours to tell."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            cls=Verbs,
            no_args_is_help=True,
            rich_markup_mode=None,  # reads the same in a pipe, in CI and on a phone
            pretty_exceptions_enable=False,
            suggest_commands=False,
            subcommand_metavar="VERB ...",
            **settings,
        )

    def command(
        self, name: str | None = None, *, cls: Any = Verb, **settings: Any
    ) -> Callable[[Any], Any]:
        """Adds a verb."""
        return super().command(name, cls=cls, **settings)


def example_of(command: Any) -> str | None:
    """The first example in a verb's help, on one line."""
    found = re.search(r"Example: (.*?)(?:\n\s*\n|$)", command.help or "", re.DOTALL)
    return None if found is None else " ".join(found[1].split())


def all_verbs(group: Any, path: Sequence[str] = ()) -> dict[str, Any]:
    """Every verb by what is typed for it, `data show` for one of a group."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        typed = (*path, name)
        if isinstance(command, TyperGroup):
            found |= all_verbs(command, typed)
        else:
            found[" ".join(typed)] = command
    return found
