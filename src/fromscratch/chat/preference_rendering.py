"""A preference as two rendered conversations, of which only the answers are learned.

In: a template, a tokenizer with its special tokens, a preference. Out: its chosen and its rejected
conversation. Always true: what is supervised are the assistant's turns after the prompt, with the
tokens that end them; what the assistant said in the prompt is the same on both sides and is not.
"""

from __future__ import annotations

from fromscratch.chat.conversations import Message
from fromscratch.chat.preferences import Preference
from fromscratch.chat.rendering import Rendered, render_ids
from fromscratch.chat.template import Template
from fromscratch.tokenizer.tokenizer import Tokenizer


def render_pair(
    template: Template, tokenizer: Tokenizer, preference: Preference
) -> tuple[Rendered, Rendered]:
    """The chosen conversation and the rejected one.

    Raises:
        UserError: The tokenizer lacks a special token, or a character.
    """
    before = sum(render_ids(template, tokenizer, preference.prompt).supervised)

    def side(answer: tuple[Message, ...]) -> Rendered:
        whole = render_ids(template, tokenizer, (*preference.prompt, *answer))
        # A turn of the assistant's ends with a special token, and no text is merged across one: the
        # prompt's supervised tokens are the same ones here, and come first.
        left, mask = before, []
        for said in whole.supervised:
            mask.append(said and left <= 0)
            left -= said
        return Rendered(whole.ids, mask)

    return side(preference.chosen), side(preference.rejected)
