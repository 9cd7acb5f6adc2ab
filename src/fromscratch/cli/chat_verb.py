"""`fromscratch chat`: talking with a model, at a terminal or from a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.markup import escape

from fromscratch.cli.sampling_settings import TypedSettings, takes_settings
from fromscratch.cli.show import err, print_warning
from fromscratch.cli.stopping import deaf_to_ctrl_c
from fromscratch.cli.terminal_text import shown, silent_keyboard
from fromscratch.cli.vocabulary import argument, option

if TYPE_CHECKING:
    from fromscratch.checkpoint.bundle import ModelBundle


@takes_settings(max_new_tokens=512)
def run(
    model: str = argument("MODEL"),
    *,
    prompt: str = option("prompt"),
    system: str = option("system", ""),
    template: str = option("template", of="for a model that does not say which it has"),
    settings: TypedSettings,
    quantize: str = option("quantize"),
    dtype: str = option("dtype", "auto", of="auto chooses by the device"),
    device: str = option("device", "auto"),
    as_json: bool = option("json", False),
) -> None:
    """Talks with a model. A base model, which was not taught to answer, goes on with your text.

    Without a terminal, each line of standard input is a message. /help lists what can be typed.

    Example: fromscratch chat runs/chat --temperature 0.7
    """
    interactive = prompt is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    with _loading(model) if interactive else nullcontext():
        from fromscratch.cli.chat_talk import Talk
        from fromscratch.cli.opened_model import conversing, open_model

        wanted = settings.checked()
        bundle = conversing(
            open_model(model, device=device, dtype=dtype, quantize=quantize), template
        )
        talk = Talk(bundle, wanted, system=system)
    if not interactive:
        from fromscratch.cli.chat_lines import answer_messages, lines_of_standard_input

        if bundle.template is None:
            print_warning(shown(_why_it_does_not_answer(model, bundle)))
        messages = iter([("The prompt", prompt)]) if prompt is not None else None
        answer_messages(talk, messages or lines_of_standard_input(), as_json=as_json)
        return
    from fromscratch.cli.chat_console import Console

    _introduce(model, bundle)
    with deaf_to_ctrl_c():
        Console(talk).run()


@contextmanager
def _loading(named: str) -> Iterator[None]:
    """Says what takes its time; what is typed meanwhile stands at the prompt afterwards."""
    with silent_keyboard(), err.status(f"loading {escape(shown(named))} ..."):
        yield


def _introduce(named: str, bundle: ModelBundle) -> None:
    """What a person should know before they type."""
    from fromscratch.cli.chat_console import remark
    from fromscratch.model.count import count_parameters

    config, template = bundle.model.config, bundle.template
    converses = f", template {template.name}" if template is not None else ""
    total = count_parameters(config).total
    remark(f"{named}: {total:,} parameters, context {config.context:,} tokens{converses}", style="")
    if template is None:
        remark(_why_it_does_not_answer(named, bundle), style="")
    remark("/help lists what can be typed; Ctrl-D leaves\n")


def _why_it_does_not_answer(named: str, bundle: ModelBundle) -> str:
    from fromscratch.checkpoint.chat_template import has_foreign_template
    from fromscratch.cli.opened_model import how_to_teach

    if has_foreign_template(bundle.folder, bundle.tokenizer):
        return (
            f"{named} has a chat template of its own, which is a program and is not run: "
            "name one of ours that is the same (--template chatml, for example); without one the "
            "model goes on with your text."
        )
    return (
        f"{named} is a base model: it goes on with the text that you type, and was not taught "
        f"to answer. {how_to_teach(named)}"
    )
