"""Random models for the benchmarks, and the plainest way to score a passage with one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.evaluate.records import EvaluatedModel
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

WHICH = EvaluatedModel("random", "0" * 64)


def loud(family: str = "gpt2", *, context: int = 24, vocab: int = 257, **more: object) -> GPT:
    """A model whose answers differ much: its weights are large."""
    shape = {"n_layer": 2, "n_head": 2, "d_model": 16, "context": context, "vocab_size": vocab}
    options = {"init": "normal", "init_std": 0.4, "padded_vocab": vocab + 7}
    return GPT(ModelConfig(family=family, **(shape | options | more)), seed=3).eval()  # type: ignore[arg-type]


def bundle_of(model: GPT, tokenizer: Tokenizer | None = None) -> ModelBundle:
    return ModelBundle(model, tokenizer or bytes_tokenizer(), Path("nowhere"), "0" * 64)


def huggingface_gpt2(
    folder: Path, tokenizer: Tokenizer, *, context: int = 128, width: int = 32
) -> ModelBundle:
    """A random GPT-2 written by transformers, with our tokenizer's files beside it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2,
        n_head=2,
        n_embd=width,
        n_positions=context,
        vocab_size=tokenizer.vocab_size,
        initializer_range=0.3,
        bos_token_id=tokenizer.eot_id,
        eos_token_id=tokenizer.eot_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save(folder, context=context)
    return load_bundle(folder)


@torch.no_grad()
def plainly(model: GPT, ids: Sequence[int], start: int) -> tuple[float, bool]:
    """The log-probability of ids[start:] and whether all are the most likely, in float64."""
    double = copy.deepcopy(model).double()
    logits = double(torch.tensor([list(ids[:-1])]))[0]
    total, greedy = 0.0, True
    for place in range(start, len(ids)):
        row = logits[place - 1]
        total += float(row.log_softmax(-1)[ids[place]])
        greedy = greedy and int(row.argmax()) == ids[place]
    return total, greedy
