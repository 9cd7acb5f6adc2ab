"""Chat with a language model in the browser: a Hugging Face Space, or `python app.py` at home.

Needs transformers and gradio only (requirements.txt). The model lies beside this file, in model/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import gradio as gr
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, TextIteratorStreamer

FOLDER = Path(__file__).resolve().parent / "model"
TITLE = "A language model"

tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
model: Any = AutoModelForCausalLM.from_pretrained(FOLDER)
model.eval()
CONTEXT: int = model.config.max_position_embeddings
CHATS: bool = tokenizer.chat_template is not None


class Stopped(StoppingCriteria):
    """Ends a generation that nobody reads any more."""

    def __init__(self) -> None:
        self.event = Event()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Whether each sequence has ended."""
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)


def text_of(content: Any) -> str:
    """The text of a message, which gradio may hand over in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part.get("text", "") if isinstance(part, dict) else str(part) for part in parts)


def prompt_of(message: str, history: list[dict[str, Any]], system: str, room: int) -> list[int]:
    """The ids that the model reads: of a conversation the newest turns that fit into `room`."""
    if not CHATS:
        ids: list[int] = tokenizer(message).input_ids or [tokenizer.bos_token_id]
        return ids[-room:]
    before = [{"role": "system", "content": system}] if system.strip() else []
    turns = [{"role": m["role"], "content": text_of(m["content"])} for m in history]
    turns.append({"role": "user", "content": message})
    while True:
        ids = tokenizer.apply_chat_template(
            before + turns, add_generation_prompt=True, return_dict=False
        )
        if len(ids) <= room or len(turns) == 1:
            return ids[-room:]
        turns = turns[2:]  # the oldest question, and its answer


def answer(
    message: str,
    history: list[dict[str, Any]],
    system: str = "",
    max_new_tokens: float = 128,
    temperature: float = 0.8,
    top_p: float = 0.95,
) -> Iterator[str]:
    """Yields the answer (of a base model: the text and how it goes on) as it grows."""
    new = max(1, min(int(max_new_tokens), CONTEXT - 1))
    ids = prompt_of(text_of(message), history, system, CONTEXT - new)
    streamer: Any = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    stopped = Stopped()
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}

    def work() -> None:
        try:
            inputs = torch.tensor([ids])
            model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=new,
                streamer=streamer,
                stopping_criteria=[stopped],
                pad_token_id=tokenizer.eos_token_id,
                **sampling,
            )
        except Exception:
            streamer.end()  # else the reader would wait for ever
            raise

    Thread(target=work, daemon=True).start()
    text = "" if CHATS else text_of(message)
    try:
        for piece in streamer:
            text += piece
            yield text
    finally:
        stopped.event.set()


demo = gr.ChatInterface(
    answer,
    title=TITLE,
    description=(
        "It may be wrong, and does not know it."
        if CHATS
        else "A base model: it does not answer, it continues the text that you type."
    ),
    additional_inputs=[
        gr.Textbox("", label="System message", visible=CHATS),
        gr.Slider(1, CONTEXT - 1, value=min(128, CONTEXT - 1), step=1, label="New tokens at most"),
        gr.Slider(0.0, 2.0, value=0.8, step=0.05, label="Temperature (0: the likeliest token)"),
        gr.Slider(0.05, 1.0, value=0.95, step=0.05, label="Top-p"),
    ],
)

if __name__ == "__main__":
    demo.launch()
