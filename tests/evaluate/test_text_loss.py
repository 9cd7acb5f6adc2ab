"""A model's loss on text: against a float64 loop with its own attention, and transformers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fromscratch.checkpoint.bundle import load_bundle, save_model
from fromscratch.data.batches import ValidationSet
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.reading import Reading
from fromscratch.data.sources import Source, SourceReport
from fromscratch.evaluate.evaluated import evaluated_model
from fromscratch.evaluate.loss import evaluate_loss
from fromscratch.evaluate.paired import DocumentLog, bits_per_byte_apart
from fromscratch.evaluate.text_data import Fingerprint, PreparedText, token_documents
from fromscratch.evaluate.text_eval import EvalOptions, evaluate_texts
from fromscratch.evaluate.text_loss import DocumentLoss, TokenDocument, document_losses
from fromscratch.evaluate.text_windows import Protocol
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.runs.eval_data import eval_texts
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.train.precision import Precision

CONTEXT, VOCAB, EOT = 24, 257, 256
FP32 = Precision("fp32", torch.device("cpu"))


def config(family: str, **options: object) -> ModelConfig:
    shape = {"n_layer": 2, "n_head": 2, "d_model": 16, "context": CONTEXT, "vocab_size": VOCAB}
    if family == "modern":
        shape |= {"n_head": 4, "n_kv_head": 2, "padded_vocab": 288, "init": "normal"}
    return ModelConfig(**({"family": family, "init_std": 0.2} | shape | options))  # type: ignore[arg-type]


def documents() -> list[TokenDocument]:
    """Some shorter than a window, one that is empty, one of several windows."""
    generator = np.random.default_rng(3)
    lengths = (5, 0, 70, 23, 24, 1, 49)
    return [TokenDocument(generator.integers(0, 256, n), 2 * n + 1) for n in lengths]


def losses(
    model: GPT, protocol: Protocol, batch_size: int = 3, docs: list[TokenDocument] | None = None
) -> list[DocumentLoss]:
    return list(
        document_losses(
            model.eval(),
            documents() if docs is None else docs,
            protocol,
            eot_id=EOT,
            batch_size=batch_size,
            precision=FP32,
        )
    )


# --- the reference --------------------------------------------------------------------------------


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, eps: float) -> np.ndarray:
    if f"{name}.bias" in state:
        x = x - x.mean(-1, keepdims=True)
        scaled = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * state[f"{name}.weight"]


def linear(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def turned(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary positions: the halves of (T, hd) as the parts of complex numbers."""
    half = x.shape[1] // 2
    angles = np.outer(np.arange(len(x)), theta ** (-np.arange(half) / half))
    z = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=1)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_probabilities(model: GPT, ids: np.ndarray) -> np.ndarray:
    """(T, V) in float64, attention head by head and row by row."""
    c = model.config
    state = {n: p.detach().numpy().astype(np.float64) for n, p in model.state_dict().items()}
    x = state["embed.weight"][ids]
    if "positions.weight" in state:
        x = x + state["positions.weight"][: len(ids)]
    for i in range(c.n_layer):
        b = f"blocks.{i}"
        qkv = linear(norm(x, state, f"{b}.attn_norm", c.norm_eps), state, f"{b}.attn.qkv")
        hd, heads = c.head_dim, []
        for h in range(c.n_head):
            kv = h // (c.n_head // c.n_kv_head)
            k0 = c.n_head * hd
            v0 = k0 + c.n_kv_head * hd
            q = qkv[:, h * hd : (h + 1) * hd]
            k = qkv[:, k0 + kv * hd : k0 + (kv + 1) * hd]
            v = qkv[:, v0 + kv * hd : v0 + (kv + 1) * hd]
            if c.qk_norm:
                q = norm(q, state, f"{b}.attn.q_norm", c.norm_eps)
                k = norm(k, state, f"{b}.attn.k_norm", c.norm_eps)
            if c.positions == "rope":
                q, k = turned(q, c.rope_theta), turned(k, c.rope_theta)
            rows = [
                softmax(q[t] @ k[: t + 1].T / math.sqrt(hd)) @ v[: t + 1] for t in range(len(q))
            ]
            heads.append(np.stack(rows))
        x = x + linear(np.concatenate(heads, axis=1), state, f"{b}.attn.out")
        up = linear(norm(x, state, f"{b}.mlp_norm", c.norm_eps), state, f"{b}.mlp.up")
        if c.gated:
            gate, value = np.split(up, 2, axis=1)
            inner = gate / (1 + np.exp(-gate)) * value
        else:
            inner = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        x = x + linear(inner, state, f"{b}.mlp.down")
    x = norm(x, state, "final_norm", c.norm_eps)
    logits = x @ state.get("head.weight", state["embed.weight"])[: c.vocab_size].T
    return np.log(softmax(logits))


def reference(model: GPT, protocol: Protocol, docs: list[TokenDocument]) -> list[float]:
    """Each document's nats: every target looked up in the first window that has it."""
    found = [0.0] * len(docs)
    streams = [[i] for i in range(len(docs))] if protocol.separate else [range(len(docs))]
    for members in streams:
        tokens, owner = [EOT], []
        for i in members:
            tokens += [*docs[i].ids.tolist(), EOT]
            owner += [i] * (len(docs[i].ids) + 1)
        done = start = 0
        while done < len(owner):
            end = min(start + protocol.context, len(owner))
            table = log_probabilities(model, np.array(tokens[start:end]))
            for position in range(done, end):
                found[owner[position]] -= table[position - start, tokens[position + 1]]
            done, start = end, start + protocol.stride
    return found


PROTOCOLS = [
    Protocol(CONTEXT, CONTEXT),
    Protocol(CONTEXT, 7),
    Protocol(10, 10, separate=True),
    Protocol(CONTEXT, 5, separate=True),
]


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_equals_the_float64_reference(family: str, protocol: Protocol) -> None:
    model = GPT(config(family), seed=4)
    docs = documents()
    wanted = reference(model, protocol, docs)
    assert np.std(wanted) > 1
    for batch_size in (1, 4):
        found = losses(model, protocol, batch_size)
        assert [d.n_targets for d in found] == [len(d.ids) + 1 for d in docs]
        assert [d.n_bytes for d in found] == [d.n_bytes for d in docs]
        np.testing.assert_allclose([d.nats for d in found], wanted, rtol=2e-6)


# --- transformers ---------------------------------------------------------------------------------


def hugging_face(kind: str, folder: Path) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    theirs: torch.nn.Module
    if kind == "gpt2":
        theirs = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCAB, n_positions=CONTEXT, n_embd=24, n_layer=2, n_head=3,
                initializer_range=0.3,
            )
        )  # fmt: skip
    else:
        theirs = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=32,
                intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, head_dim=8, initializer_range=0.3,
            )
        )  # fmt: skip
    theirs.eval().save_pretrained(folder)
    bytes_tokenizer().save(folder)
    return theirs


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("stride", [CONTEXT, 8])
def test_equals_transformers_own_loss_on_a_text_file(
    kind: str, stride: int, tmp_path: Path
) -> None:
    """The loop of Hugging Face's guide on perplexity, with an end-of-text before the text."""
    theirs = hugging_face(kind, tmp_path / "model").double()
    text = "It is na\u00efve to count na\u00efve caf\u00e9s. " * 6
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    ids = torch.tensor([[EOT, *text.encode(), EOT]])
    nats, done = 0.0, 1
    for begin in range(0, ids.shape[1] - 1, stride):
        end = min(begin + CONTEXT + 1, ids.shape[1])
        window, new = ids[:, begin:end], end - max(done, begin + 1)
        if new <= 0:
            break
        labels = window.clone()
        labels[:, :-new] = -100
        with torch.no_grad():
            nats += float(theirs(window[:, :-1]).logits.log_softmax(-1)[
                0, range(window.shape[1] - 1 - new, window.shape[1] - 1), window[0, -new:]
            ].neg().sum())  # fmt: skip
        done = end
    bundle = load_bundle(tmp_path / "model")
    (record,) = evaluate_texts(
        bundle,
        evaluated_model("theirs", bundle),
        eval_texts([str(tmp_path / "text.txt")], split="val", reading=Reading(documents="file")),
        EvalOptions(Protocol(CONTEXT, stride), 4, FP32),
    ).records
    n_bytes = len(text.encode())
    assert record.settings["n_tokens"] == n_bytes + 1
    assert record.metrics["loss"].value == pytest.approx(nats / (n_bytes + 1), rel=1e-6)
    perplexity = math.exp(nats / (n_bytes + 1))
    assert record.metrics["perplexity"].value == pytest.approx(perplexity, rel=1e-5)
    bits = nats / math.log(2) / n_bytes
    assert record.metrics["bits_per_byte"].value == pytest.approx(bits, rel=1e-6)
    assert record.metrics["loss"].stderr is None  # of one document none can be said
    assert record.data.n_bytes == n_bytes


# --- the run's own validation, the errors, two models ---------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, in several shards."""
    base = tmp_path_factory.mktemp("two")
    for name, n in (("a", 60), ("b", 40)):
        (base / name).mkdir()
        for i in range(n):
            text = f"{name} {i}: na\u00efve \u4f60\u597d\n" * (1 + i % 4)
            (base / name / f"{i:02}.txt").write_text(text, encoding="utf-8")
    options = PrepareOptions(
        tokenizer="bytes", val_fraction=0.5, documents="file", shard_tokens=900
    )
    prepare([Source(n, str(base / n)) for n in ("a", "b")], base / "data", options)
    return base / "data"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, GPT(config("modern"), seed=5), bytes_tokenizer())
    return load_bundle(folder)


def texts_of(folder: Path) -> list:
    return eval_texts([str(folder)], split="val", reading=Reading())


def test_is_what_training_s_own_validation_says(prepared: Path, bundle) -> None:
    from fromscratch.data.batches import Windows
    from fromscratch.data.shards import TokenStream

    texts = texts_of(prepared)
    assert [text.name for text in texts] == [f"a: {prepared}", f"b: {prepared}"]
    log = DocumentLog()
    result = evaluate_texts(
        bundle,
        evaluated_model("m", bundle),
        texts,
        EvalOptions(Protocol(CONTEXT, CONTEXT), 3, FP32),
        log=log,
    )
    *each, pooled = result.records
    parts = []
    for text, record in zip(texts, each, strict=True):
        assert isinstance(text, PreparedText)
        stream = TokenStream(prepared, text.manifest.select("val", text.only))
        windows = Windows(stream, CONTEXT)
        own = evaluate_loss(
            bundle.model,
            ValidationSet("v", windows, bundle.tokenizer.bytes_per_id, None),
            batch_size=4,
        )
        parts.append(own)
        assert record.metrics["loss"].value == pytest.approx(own.loss, rel=1e-6)
        assert record.metrics["bits_per_byte"].value == pytest.approx(own.bits_per_byte, rel=1e-6)
        assert record.data.n_bytes == own.n_bytes == text.manifest.total("bytes", "val", text.only)
        assert record.data.n_documents == text.manifest.total("documents", "val", text.only)
        assert record.metrics["loss"].n == record.data.n_documents
    nats = sum(p.nats for p in parts)
    assert pooled.metrics["loss"].value == pytest.approx(
        nats / sum(p.n_targets for p in parts), rel=1e-6
    )
    assert pooled.data.n_documents == log.n == sum(r.data.n_documents or 0 for r in each)
    # The errors are those of the documents' own nats.
    rows = np.concatenate(list(log.chunks()))
    ratio = rows[:, 0].sum() / rows[:, 1].sum()
    residual = rows[:, 0] - ratio * rows[:, 1]
    by_hand = math.sqrt(log.n / (log.n - 1) * (residual**2).sum()) / rows[:, 1].sum()
    stderr = pooled.metrics["bits_per_byte"].stderr
    assert stderr == pytest.approx(by_hand / math.log(2), rel=1e-6)
    loss, perplexity = pooled.metrics["loss"], pooled.metrics["perplexity"]
    assert perplexity.stderr == pytest.approx(math.exp(loss.value) * (loss.stderr or 0), rel=1e-9)


def test_a_difference_is_taken_document_by_document() -> None:
    one, other = DocumentLog(), DocumentLog()
    generator = np.random.default_rng(6)
    sizes = generator.integers(50, 5000, 300)
    hard = generator.normal(2, 1, 300)
    for size, hardness in zip(sizes.tolist(), hard.tolist(), strict=True):
        one.add(DocumentLoss((hardness + 0.01) * size, size, size))
        other.add(DocumentLoss(hardness * size, size, size))
    apart = bits_per_byte_apart(one, other)
    assert apart.ratio == pytest.approx(0.01 / math.log(2), rel=1e-9)
    assert apart.stderr == pytest.approx(0, abs=1e-6)  # each is harder by the same
    one.close()
    other.close()


def test_a_batch_that_does_not_fit_is_said_so(bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from fromscratch.foundation.errors import UserError

    def full(self: GPT, ids: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(GPT, "hidden", full)
    with pytest.raises(UserError, match=r"Use --batch-size 4"):
        losses(bundle.model, Protocol(CONTEXT, CONTEXT), batch_size=8)


def test_documents_are_asked_for_as_they_are_needed(bundle) -> None:
    asked = []

    def endless() -> Iterator[TokenDocument]:
        while True:
            asked.append(1)
            yield TokenDocument(np.full(5_000, 65), 5_000)

    coming = document_losses(
        bundle.model, endless(), Protocol(CONTEXT, CONTEXT), eot_id=EOT, batch_size=50,
        precision=FP32,
    )  # fmt: skip
    first, second = next(coming), next(coming)
    assert first.n_targets == second.n_targets == 5_001
    assert len(asked) < 40


def test_the_tokenizer_s_bytes_are_the_text_s(prepared: Path, gpt2) -> None:
    """Another tokenizer gets the very bytes: same fingerprint, its own tokens."""
    for text in texts_of(prepared):
        mine, theirs = Fingerprint(), Fingerprint()
        own = list(token_documents(text, bytes_tokenizer(), SourceReport(), [mine]))
        other = list(token_documents(text, gpt2, SourceReport(), [theirs]))
        assert mine.sha256 == theirs.sha256
        assert mine.n_bytes == theirs.n_bytes == sum(len(d.ids) for d in own)
        assert [d.n_bytes for d in own] == [d.n_bytes for d in other]
        for one, two in zip(own, other, strict=True):
            raw = bytes(one.ids.tolist())
            assert gpt2.encode(raw.decode()) == two.ids.tolist()


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    import json
    import tracemalloc

    peaks = []
    for n in (400, 3_200):
        path = tmp_path / f"{n}.jsonl"
        with path.open("w") as file:
            for i in range(n):
                file.write(json.dumps({"text": f"{i} and so on " * 400}) + "\n")
        (text,) = eval_texts([str(path)], split="val", reading=Reading())
        fingerprint = Fingerprint()
        tracemalloc.start()
        for _ in token_documents(text, bytes_tokenizer(), SourceReport(), [fingerprint]):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert fingerprint.n_documents == n
        assert fingerprint.n_bytes > 5_000 * n
    assert peaks[1] < 1.2 * peaks[0]
