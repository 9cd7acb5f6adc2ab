"""A chat without a terminal: one message a line in, one answer after the other out.

It is one conversation. Nothing on standard input is a command, so a message may begin with
anything; on standard output there are answers and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from fromscratch.cli.chat_talk import Answer, Talk
from fromscratch.cli.show import err, print_json, print_warning
from fromscratch.cli.stopping import stopped_by_ctrl_c
from fromscratch.cli.terminal_text import TextWriter
from fromscratch.foundation.errors import UserError

_REASONS = {"end": "stop", "limit": "length", "context": "length", "stopped": "stopped"}


def answer_messages(talk: Talk, messages: Iterator[tuple[str, str]], *, as_json: bool) -> None:
    """Asks and answers, in their order.

    Args:
        talk: The conversation.
        messages: Each with where it stands, for people.
        as_json: An object a line, with OpenAI's names for what they have names for.

    Raises:
        UserError: A message does not fit into the model's context.
        typer.Exit: Ctrl-C, with exit code 130.
    """
    writer = TextWriter(sys.stdout)
    dropped = 0
    for where, text in messages:
        talk.ask(text)
        with stopped_by_ctrl_c() as stop:
            try:
                answer = talk.answer((lambda piece: None) if as_json else writer.write, stop)
            except UserError as error:
                raise UserError(f"{where}: {error.what}", fix=error.fix) from None
        if as_json:
            print_json(_row(talk, answer), indent=None)
        else:
            writer.write("\n")
        if talk.dropped > dropped:
            dropped = talk.dropped
            print_warning(
                f"{where}: the conversation is longer than the model's context; its oldest "
                f"{dropped} messages were not read"
            )
        if stop.asked:
            err.print("stopped")
            raise typer.Exit(130)


def lines_of_standard_input() -> Iterator[tuple[str, str]]:
    """The lines that say something, as they come.

    Raises:
        UserError: A line is not UTF-8.
    """
    for number, line in enumerate(sys.stdin.buffer, 1):
        where = f"Line {number} of standard input"
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{where} is not UTF-8.") from None
        if text.strip():
            yield where, text


def _row(talk: Talk, answer: Answer) -> dict[str, Any]:
    if talk.template is None:
        said: dict[str, Any] = {"text": answer.text}
    else:
        said = {"message": {"role": "assistant", "content": answer.text}}
    return {
        **said,
        "finish_reason": _REASONS[answer.ended],
        "usage": {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens},
        "dropped_messages": answer.dropped,
        "model": str(talk.bundle.folder),
        "sha256": talk.bundle.sha256,
    }
