"""What other trainers call the things that metrics.jsonl names.

In: a flat row of names and values, from a line of JSON, from TensorBoard's tags or from the history
of a Hugging Face Trainer. Out: rows of ours. A name that means nothing here is kept as it is, in
the row of the split that it begins with, so that nothing of a log is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fromscratch.logs.items import Item, Samples, ScoreRow, StepRow, Text, ValidationRow
from fromscratch.logs.numerals import moment, number, step_number

VALIDATION = "validation"

_STEP = ("step", "global_step", "iter", "iteration", "iter_num", "it", "current_step", "update")
_TIME = ("timestamp", "time", "datetime", "date", "wall_time")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "loss": ("loss", "train_loss", "training_loss", "loss_train", "lm_loss", "train_loss_step"),
    "lr": ("lr", "learning_rate", "train_lr", "train_learning_rate"),
    "grad_norm": ("grad_norm", "norm", "gradient_norm", "train_grad_norm", "total_norm", "gnorm"),
    "tokens": (
        *("tokens", "tokens_seen", "total_tokens", "num_tokens", "n_tokens", "consumed_tokens"),
        *("num_input_tokens_seen", "train_num_input_tokens_seen", "train_tokens"),
    ),
    "tokens_per_s": (
        *("tokens_per_s", "tokens_per_sec", "tokens_per_second", "tok_per_sec", "tok_sec", "tok_s"),
        *("tokens_s", "tps", "train_tokens_per_second", "train_tok_per_sec", "train_tokens_per_s"),
    ),
    "mfu": ("mfu", "train_mfu"),
    "memory_gb": ("memory_gb", "gpu_gb", "gpu_mem_gb", "gpu_memory_gb", "mem_gb", "max_memory_gb"),
    "seconds": (
        *("seconds", "elapsed", "elapsed_s", "elapsed_seconds", "time_elapsed", "runtime"),
        *("total_time", "total_training_time", "train_seconds"),
    ),
    "step_seconds": ("step_seconds", "step_time", "seconds_per_step", "iter_time", "time_per_step"),
}
_OURS = {alias: ours for ours, aliases in _ALIASES.items() for alias in aliases}
_SCORES = {
    "hella": "hellaswag_acc_norm",
    "hellaswag": "hellaswag_acc_norm",
    "hellaswag_acc_norm": "hellaswag_acc_norm",
    "hellaswag_acc": "hellaswag_acc",
    "hellaswag_n": "hellaswag_n",
}
_HELD_OUT = re.compile(r"(?:val|valid|validation|eval|dev|test)(?:_(.+))?")
_LOSS_OF_HELD_OUT = re.compile(r"loss_(?:val|valid|validation|eval|dev|test)")
_MEASURES = {
    **dict.fromkeys(("loss", "lm_loss", "nll"), "val_loss"),
    **dict.fromkeys(("ppl", "perplexity"), "val_ppl"),
    **dict.fromkeys(("bpb", "bits_per_byte"), "val_bpb"),
    **dict.fromkeys(("tokens", "n_tokens"), "val_tokens"),
}
_SPLIT = ("split", "phase", "mode", "stage")
_TEXT = (
    *("text", "decoded_output", "sample", "generated_text", "generation", "generated"),
    *("completion", "response", "output"),
)
_PROMPT = ("prompt", "input")


def rows_of(raw: Mapping[str, Any]) -> Iterator[Item]:
    """The rows that one flat row of some trainer amounts to; nothing if it has no step.

    Args:
        raw: Names as the trainer has them (`train/loss`, `eval_loss`, `_step`).
    """
    row = {plain(name): value for name, value in raw.items() if value is not None}
    step = step_in(row)
    if step is None:
        return
    time = next((m for key in _TIME if (m := moment(row.get(key))) is not None), None)
    texts = _texts(row)
    if texts:
        yield Samples(step, texts, time)
    training: dict[str, Any] = {}
    held_out: dict[str, dict[str, Any]] = {}
    scores: dict[str, Any] = {}
    outside = _is_held_out(row)
    for name, value in row.items():
        if name in _STEP or name in _TEXT or name in _PROMPT or name in ("samples", "set"):
            continue
        if name in _TIME and (moment(value) is not None or not isinstance(value, (int, float))):
            continue
        if name in _SCORES:
            scores[_SCORES[name]] = value
            continue
        validation = _held_out_name(name, outside)
        if validation is not None:
            held_out.setdefault(_named_set(row) or validation[0], {})[validation[1]] = value
            continue
        if name == "time":  # a small number: seconds, of the run or of the step
            name = "seconds"
        ours = _OURS.get(name, name)
        # Of two names for one thing the first counts; the other is kept under its own.
        training[name if ours in training else ours] = value
    yield from _made(step, time, training, held_out, scores)


def plain(name: str) -> str:
    """A name in one spelling: `train/Loss`, `train-loss` and `train.loss` are `train_loss`."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def our_name(name: str) -> str:
    """What a value of training is called here; a name that means nothing stays, in plain spelling.

    The same few names come with every line of a log.
    """
    plainly = plain(name)
    return _OURS.get(plainly, plainly)


def step_in(row: Mapping[str, Any]) -> int | None:
    """The step of a row with plain names."""
    for key in _STEP:
        if key in row:
            return step_number(row[key])
    return None


def is_record(raw: Mapping[str, Any]) -> bool:
    """Whether a row is one of a training log: it has a step, and a loss, a score or a text."""
    return any(
        isinstance(item, (Samples, ScoreRow))
        or (isinstance(item, StepRow) and "loss" in item.values)
        or (isinstance(item, ValidationRow) and item.values.keys() & {"val_loss", "val_bpb"})
        for item in rows_of(raw)
    )


def _made(
    step: int,
    time: str | None,
    training: dict[str, Any],
    held_out: dict[str, dict[str, Any]],
    scores: dict[str, Any],
) -> Iterator[Item]:
    if held_out and "loss" not in training:
        # A row of validation alone; what else it says is true of that moment.
        for values in held_out.values():
            values.update({k: v for k, v in training.items() if k not in values})
    elif any(number(training.get(ours)) is not None for ours in _ALIASES):
        known = {
            key: number(value) if key in _ALIASES or number(value) is not None else value
            for key, value in training.items()
        }
        mfu = number(known.get("mfu"))
        if mfu is not None and mfu > 1.5:  # a percentage
            known["mfu"] = mfu / 100
        yield StepRow(step, {k: v for k, v in known.items() if v is not None}, time)
    for name, values in held_out.items():
        yield ValidationRow(step, name, values, time)
    if scores:
        yield ScoreRow(step, scores, time)


def _named_set(row: Mapping[str, Any]) -> str | None:
    """The set that a row names, in characters that a file can hold."""
    name = row.get("set")
    return name.encode("utf-8", "replace").decode() if isinstance(name, str) else None


def _is_held_out(row: Mapping[str, Any]) -> str | None:
    """The set that a whole row speaks of (`"split": "val"`), if it is not training."""
    for key in _SPLIT:
        value = row.get(key)
        if isinstance(value, str) and _HELD_OUT.fullmatch(plain(value)):
            return VALIDATION
    return None


def _held_out_name(name: str, outside: str | None) -> tuple[str, str] | None:
    """(set, our name) of a value about held-out text, else None."""
    if outside is not None and name in ("loss", "ppl", "perplexity", "bpb"):
        return outside, _MEASURES[name]
    if _LOSS_OF_HELD_OUT.fullmatch(name):
        return VALIDATION, "val_loss"
    found = _HELD_OUT.fullmatch(name)
    if found is None or found[1] is None:
        return None
    rest = found[1]
    if rest in _MEASURES:
        return ("test" if name.startswith("test") else VALIDATION), _MEASURES[rest]
    for measure, ours in _MEASURES.items():  # `eval_wiki_loss`, `val_loss_wiki`
        if rest.endswith(f"_{measure}"):
            return rest.removesuffix(f"_{measure}"), ours
        if rest.startswith(f"{measure}_"):
            return rest.removeprefix(f"{measure}_"), ours
    return VALIDATION, name


def _texts(row: Mapping[str, Any]) -> tuple[Text, ...]:
    several = row.get("samples")
    if isinstance(several, list):
        found = [_text(s if isinstance(s, Mapping) else {"text": s}) for s in several]
        return tuple(text for text in found if text is not None)
    one = _text(row)
    return () if one is None else (one,)


def _text(row: Mapping[str, Any]) -> Text | None:
    text = next((row[key] for key in _TEXT if isinstance(row.get(key), str)), None)
    if text is None:
        return None
    prompt = next((row[key] for key in _PROMPT if isinstance(row.get(key), str)), "")
    return Text(prompt, text.removeprefix(prompt), moment(row.get("timestamp")))
