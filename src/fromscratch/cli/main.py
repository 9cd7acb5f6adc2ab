"""`fromscratch VERB`: the verbs, and the one place where errors become messages.

Verbs import what they need when they run, so that `--help` and `plan` answer without loading torch.
A `UserError` becomes one message and exit code 2; anything else is our mistake and keeps its
traceback.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import typer
from typer.main import get_command

from fromscratch import __version__
from fromscratch.cli import (
    bench_verb,
    chat_verb,
    data_verb,
    doctor_verb,
    env_verb,
    eval_verb,
    export_verb,
    generate_verb,
    import_verb,
    judge_verb,
    logs_verb,
    merge_verb,
    plan_verb,
    prepare_verb,
    report_verb,
    resume_verb,
    scale_verb,
    serve_verb,
    sweep_verb,
    tokenizer_verb,
    train_verb,
    try_verb,
    watch_verb,
)
from fromscratch.cli.mistypes import PROGRAM, mistake
from fromscratch.cli.show import print_error, speak_in_any_encoding
from fromscratch.cli.verb_group import Verbal
from fromscratch.foundation.errors import UserError

app = Verbal(context_settings={"help_option_names": ["-h", "--help"]})
app.command("try")(try_verb.run)
app.command("plan")(plan_verb.run)
app.command("bench")(bench_verb.run)
app.command("prepare")(prepare_verb.run)
app.add_typer(tokenizer_verb.app, name="tokenizer")
data_verb.app.command("merge")(merge_verb.merge)
app.add_typer(data_verb.app, name="data")
app.command("doctor")(doctor_verb.run)
app.command("train")(train_verb.run)
app.command("resume")(resume_verb.run)
app.command("sweep")(sweep_verb.run)
app.command("scale")(scale_verb.run)
app.command("eval")(eval_verb.run)
app.command("generate")(generate_verb.run)
app.command("chat")(chat_verb.run)
app.command("serve")(serve_verb.run)
app.command("export")(export_verb.run)
app.command("import")(import_verb.run)
app.command("judge")(judge_verb.run)
app.command("report")(report_verb.run)
app.add_typer(logs_verb.app, name="logs")
app.command("watch")(watch_verb.run)
app.command("env")(env_verb.run)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fromscratch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Train a GPT-class language model from nothing, on the machine you have, and lose nothing.

    Start with: fromscratch try
    """


def _as_source(word: str) -> str:
    """`-.jsonl` is standard input of that kind; without a name it would be taken for an option."""
    return f"stdin={word}" if re.fullmatch(r"-(\.\w+)+", word) else word


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 a mistake that the user can mend."""
    typed = [_as_source(w) for w in (sys.argv[1:] if arguments is None else arguments)]
    command = get_command(app)
    speak_in_any_encoding()
    try:
        code = command.main(args=typed, prog_name=PROGRAM, standalone_mode=False, obj=typed)
    except UserError as error:
        print_error(error.what, error.fix)
        code = 2
    except typer.TyperException as error:
        code = _tell(error, typed, command)
    except typer.Abort:  # a question was answered with Ctrl-C or Ctrl-D
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: typer.TyperException, typed: list[str], command: Any) -> int:
    """Says what typer cannot read; a program without a verb, or a group without one, is told."""
    message = error.format_message()
    if message.startswith("Usage:"):
        typer.echo(message, err=True)
    else:
        told = mistake(error, typed, command)
        print_error(told.what, told.fix)
    return 2
