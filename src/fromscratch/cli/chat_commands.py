"""What can be typed in a chat besides messages: `/help` and the others.

In: the conversation, and what follows the command. Out: what to say about it, and what comes next.
Nothing here reads or writes the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fromscratch.chat.conversations import NotAConversation
from fromscratch.chat.dialogue import Dialogue
from fromscratch.chat.dialogue_file import load_record, save_records
from fromscratch.cli.chat_talk import Talk
from fromscratch.cli.sampling_settings import SETTINGS, said
from fromscratch.foundation.errors import UserError, did_you_mean

KEYS = (
    ("Enter", "sends"),
    ("Alt-Enter", "begins a new line; so does Enter after a \\"),
    ("Up, Down", "what you typed before, in earlier chats too"),
    ("Tab", "completes a command"),
    ("Ctrl-C", "stops the answer; twice on an empty line leaves"),
    ("Ctrl-D", "leaves"),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        words: To be shown.
        then: Wait for what is typed next, let the model answer, or leave.
        edit: What to put on the next line, to be edited.
    """

    words: str = ""
    then: Literal["read", "answer", "leave"] = "read"
    edit: str = ""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        run: Does it.
        takes: What follows it, for people.
        help: What it does.
        words: What may follow it, to be completed; None for a path.
    """

    run: Callable[[Talk, str], Outcome]
    takes: str
    help: str
    words: tuple[str, ...] | None = ()


def run_command(typed: str, talk: Talk) -> Outcome:
    """Does what a line that begins with a slash says.

    Raises:
        UserError: There is no such command, or it cannot be done.
    """
    name, _, rest = typed.strip().partition(" ")
    command = COMMANDS.get(_SHORT.get(name, name))
    if command is None:
        raise UserError(
            f'There is no command "{name}".{did_you_mean(name, COMMANDS)}',
            fix="/help lists them; a message that begins with a slash is typed with two.",
        )
    return command.run(talk, rest.strip())


def _help(talk: Talk, rest: str) -> Outcome:
    rows = [(f"{name} {c.takes}".strip(), c.help) for name, c in COMMANDS.items()]
    width = max(len(left) for left, _ in (*rows, *KEYS))
    lines = [f"{left:<{width}}  {right}" for left, right in rows]
    lines += ["", *(f"{left:<{width}}  {right}" for left, right in KEYS)]
    return Outcome("\n".join(lines))


def _set(talk: Talk, rest: str) -> Outcome:
    name, _, value = rest.replace("=", " ", 1).partition(" ")
    if not name:
        width = max(map(len, SETTINGS))
        shown = {key: said(held) for key, held in talk.settings.values().items()}
        values = max(map(len, shown.values()))
        return Outcome(
            "\n".join(
                f"{key:<{width}}  {shown[key]:<{values}}  {setting.help}"
                for key, setting in SETTINGS.items()
            )
        )
    key = name.strip("-").replace("-", "_")
    if not value.strip() and key in SETTINGS and key != "stop":
        return Outcome(f"{key} is {said(talk.settings.values()[key])}: {SETTINGS[key].help}")
    before = talk.settings
    talk.settings = talk.settings.changed(name, value.strip())
    return Outcome(
        f"{key} is {said(talk.settings.values()[key])}, was {said(before.values()[key])}"
    )


def _system(talk: Talk, rest: str) -> Outcome:
    if rest:
        talk.set_system("" if rest == "off" else rest)
    elif not isinstance(talk.thread, Dialogue):
        talk.set_system("")  # refuses, with the reason
    assert isinstance(talk.thread, Dialogue)
    if not talk.thread.system:
        return Outcome("no system message")
    begun = " (from the next answer on; /reset begins anew with it)" if talk.thread.turns else ""
    return Outcome(f"system message: {talk.thread.system}{begun if rest else ''}")


def _reset(talk: Talk, rest: str) -> Outcome:
    talk.reset()
    kept = isinstance(talk.thread, Dialogue) and talk.thread.system
    return Outcome("forgotten" + ("; the system message stays" if kept else ""))


def _again(talk: Talk, rest: str) -> Outcome:
    if not talk.again():
        raise UserError("There is no answer to draw again.")
    return Outcome(then="answer")


def _more(talk: Talk, rest: str) -> Outcome:
    if talk.thread.empty:
        raise UserError("There is nothing to go on with.")
    return Outcome(then="answer")


def _undo(talk: Talk, rest: str) -> Outcome:
    question = talk.thread.question
    if not talk.undo():
        raise UserError("There is nothing to take back.")
    return Outcome("taken back; edit it, or say something else", edit=question)


def _save(talk: Talk, rest: str) -> Outcome:
    if not rest:
        raise UserError("/save needs a file's name.", fix="For example: /save chat.json")
    records = talk.thread.records()
    if not records:
        raise UserError("There is nothing to save: no answer was given yet.")
    path = Path(rest).expanduser()
    added = save_records(path, records, replace=path.absolute() in talk.saved)
    talk.saved.add(path.absolute())
    return Outcome(f"{'added to' if added else 'saved as'} {path}, which finetuning can read")


def _load(talk: Talk, rest: str) -> Outcome:
    if not rest:
        raise UserError("/load needs a file's name.")
    path = Path(rest).expanduser()
    try:
        talk.load(load_record(path))
    except NotAConversation as error:
        raise UserError(f"{path}: its last record {error}.") from None
    return _show(talk, "")


def _show(talk: Talk, rest: str) -> Outcome:
    if talk.thread.empty:
        return Outcome("nothing was said yet")
    if isinstance(talk.thread, Dialogue):
        return Outcome("\n\n".join(f"{m.role}: {m.content}" for m in talk.thread.messages))
    return Outcome("\n\n---\n\n".join("".join(text) for text in talk.thread.texts))


def _leave(talk: Talk, rest: str) -> Outcome:
    return Outcome(then="leave")


COMMANDS: Mapping[str, Command] = {
    "/regen": Command(_again, "", "another answer to the last message"),
    "/more": Command(_more, "", "the model goes on where it ended"),
    "/undo": Command(_undo, "", "take back the last message and its answer"),
    "/reset": Command(_reset, "", "forget what was said"),
    "/system": Command(_system, "TEXT", "the system message; `off` takes it away", ("off",)),
    "/set": Command(_set, "NAME VALUE", "how it writes; alone, all settings", tuple(SETTINGS)),
    "/show": Command(_show, "", "what was said so far"),
    "/save": Command(_save, "FILE", "save it for finetuning; .jsonl: add to the file", None),
    "/load": Command(_load, "FILE", "go on from a saved conversation", None),
    "/help": Command(_help, "", "this list"),
    "/quit": Command(_leave, "", "leave"),
}
_SHORT = {"/exit": "/quit", "/q": "/quit", "/bye": "/quit", "/?": "/help", "/clear": "/reset"}
