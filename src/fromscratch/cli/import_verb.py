"""`fromscratch import`: another trainer's checkpoint as a model folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fromscratch.cli.show import print_json, print_warning, say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.working import working


def run(
    checkpoint: Path = argument("CHECKPOINT"),
    overrides: list[str] = argument(
        "SETTING", None, of="n_head=12, activation=gelu_tanh, norm_eps=1e-5"
    ),
    out: Path = option("out", ..., of="the model's folder; new"),
    tokenizer: str = option("tokenizer", show_default="what lies beside, or gpt2"),
    as_json: bool = option("json", False),
) -> None:
    """Reads a checkpoint of nanoGPT and its relatives; nothing in the file is run.

    Example: fromscratch import checkpoint_step_9900.pt n_head=12 --out my-old-model
    """
    from fromscratch.export.importing import import_checkpoint

    with working("reading, and comparing"):
        made = import_checkpoint(checkpoint, out, tokenizer=tokenizer, overrides=overrides or [])
    if as_json:
        content = asdict(made) | {"config": made.config.model_dump()}
        print_json(content)
        return
    c = made.config
    say(
        f"{made.path}: {made.parameters:,} parameters; {c.n_layer} layers, {c.n_head} heads, "
        f"width {c.d_model}, context {c.context}, {c.vocab_size:,} ids ({made.tokenizer})"
    )
    if made.step is not None:
        say(f"after step {made.step:,}")
    for note in made.notes:
        say(f"note: {note}")
    say(f"compared with {made.compared_with}: logits differ by {made.reader.largest:.1e} at most")
    if made.loss is not None:
        say(
            f"a page of English: {made.loss:.2f} nats a token (a uniform guess: {made.uniform:.2f})"
        )
    if made.is_doubtful:
        print_warning(
            "That is hardly better than a guess: if the model knows English, the tokenizer or "
            "n_head is another one."
        )
