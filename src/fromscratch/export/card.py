"""The model card: README.md of a folder for the hub.

In: what is known of a model. Out: Markdown with the YAML header that the hub reads. Everything on
it is taken from the run's files or counted from the built model; nothing is filled in by hand, and
the licence is left to whoever publishes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fromscratch import __version__
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.card_facts import CardFacts, SourceFacts
from fromscratch.foundation.names import CARD_CURVES
from fromscratch.report.numerals import count, duration, significant

_PREPARED = {
    "documents": "documents",
    "train_tokens": "tokens to train on",
    "val_tokens": "tokens held out",
}
_METRICS = {"bits_per_byte": "bits per byte", "acc": "accuracy", "acc_norm": "normalised accuracy"}
# Hoffmann et al. 2022: about 20 training tokens a parameter are the best use of a budget.
_CHINCHILLA = 20


@dataclass(frozen=True)
class CardOptions:
    """What no file of the run says.

    Attributes:
        name: What the model is called: `ORG/NAME` where it goes to the hub.
        dtype: Of the weights in the folder.
        sha256: Of the weights' file in the folder.
        checked: A sentence about reading them back.
        licence: As the hub names it; None where nobody has chosen one.
        price: Dollars an hour and device; None for the list price of a known card.
        watts: Power of a device; None if unknown.
    """

    name: str
    dtype: str
    sha256: str
    checked: str
    licence: str | None = None
    price: float | None = None
    watts: float | None = None


def model_card(bundle: ModelBundle, known: CardFacts, options: CardOptions) -> str:
    """The text of README.md.

    Args:
        bundle: The model.
        known: What its run says.
        options: What no file says.
    """
    parts = [
        _header(bundle, known, options),
        f"# {options.name.rpartition('/')[2]}",
        _opening(bundle, known),
        _use(bundle, options),
        _model(bundle, known, options),
        _data(known),
        _training(known, options),
        _evaluations(known),
        _limits(bundle, known),
        _licence(options),
        f"Written by fromscratch {__version__} from the files of the run. {options.checked}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(bundle: ModelBundle, known: CardFacts, options: CardOptions) -> str:
    lines = ["---"]
    if options.licence is not None:
        lines.append(f"license: {json.dumps(options.licence)}")
    lines += ["library_name: transformers", "pipeline_tag: text-generation"]
    tags = ["fromscratch", "gpt2" if bundle.model.config.positions == "learned" else "qwen3"]
    if bundle.template is not None:
        tags.append("conversational")
    lines.append(f"tags: {json.dumps(tags)}")
    sets = list(dict.fromkeys(s.hub_name for s in known.sources if s.hub_name))
    if sets:
        lines.append(f"datasets: {json.dumps(sets)}")
    if known.base is not None and known.base.on_hub:
        lines.append(f"base_model: {json.dumps(known.base.name)}")
    results = _results(known)
    if results:
        name = options.name.rpartition("/")[2]
        lines.append("model-index: " + json.dumps([{"name": name, "results": results}]))
    return "\n".join([*lines, "---"])


def _results(known: CardFacts) -> list[dict[str, object]]:
    """The evaluations as the hub's `model-index` has them (JSON is YAML, too)."""
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": record.data.name, "type": record.data.name},
            "metrics": [
                {"type": name, "name": _METRICS.get(name, name), "value": round(metric.value, 6)}
                for name, metric in record.metrics.items()
                if math.isfinite(metric.value)
            ],
        }
        for record in known.evals
    ]


def _opening(bundle: ModelBundle, known: CardFacts) -> str:
    total = sum(p.numel() for p in bundle.model.parameters())
    kind = "a chat model" if bundle.template is not None else "a base model, which continues text"
    text = f"A language model of {count(total)} parameters: {kind}."
    if known.base is not None:
        mark = f" (weights with sha256 `{known.base.sha256[:16]}`)" if known.base.sha256 else ""
        text += f" It was made from {known.base.name}{mark} by {_how(known.base.objective)}."
    elif known.record is not None:
        text += " It was trained from nothing."
    tokens = known.weights.tokens
    if tokens:
        text += f" {'That' if known.base else 'It'} took {count(tokens)} tokens"
        names = [s.hub_name or s.origin for s in known.sources]
        text += f" of {_listed(names)}." if names else "."
    return text


def _how(objective: str) -> str:
    known = {"pretrain": "further pretraining", "sft": "supervised finetuning"}
    return known.get(objective, f"training on preferences ({objective.upper()})")


def _use(bundle: ModelBundle, options: CardOptions) -> str:
    lines = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'name = "{options.name}"  # or a folder',
        "tokenizer = AutoTokenizer.from_pretrained(name)",
        "model = AutoModelForCausalLM.from_pretrained(name)",
    ]
    if bundle.template is not None:
        lines += [
            'messages = [{"role": "user", "content": "What is a noun?"}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
        ]
    else:
        lines.append('inputs = tokenizer("Once upon a time", return_tensors="pt")')
    lines += [
        "out = model.generate(**inputs, max_new_tokens=100, do_sample=True, top_k=50)",
        'print(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```"


def _model(bundle: ModelBundle, known: CardFacts, options: CardOptions) -> str:
    c = bundle.model.config
    learned = c.positions == "learned"
    total = sum(p.numel() for p in bundle.model.parameters())
    padding = f" ({count(c.n_padding)} of padding, which is not in the file)" if c.n_padding else ""
    heads = count(c.n_head) if c.n_kv_head == c.n_head else f"{c.n_head} ({c.n_kv_head} key/value)"
    rows = [
        ("Parameters", count(total)),
        ("Architecture", "GPT2LMHeadModel" if learned else "Qwen3ForCausalLM"),
        ("Layers, heads, width, MLP", f"{c.n_layer}, {heads}, {c.d_model}, {c.d_ff}"),
        ("Context", f"{count(c.context)} tokens"),
        ("Vocabulary", f"{count(c.vocab_size)} ids{padding}, tokenizer {bundle.tokenizer.name}"),
        ("Embedding and head", "tied" if c.tie_embeddings else "separate"),
        ("Chat template", bundle.template.name if bundle.template is not None else "none"),
        ("Weights", f"{options.dtype}, sha256 `{options.sha256[:16]}`"),
    ]
    step = known.weights.step
    if step is not None:
        rows.append(("Checkpoint", f"step {count(step)}, sha256 `{known.weights.sha256[:16]}`"))
    return "## Model\n\n" + _table(("", ""), rows)


def _data(known: CardFacts) -> str:
    if not known.sources:
        return ""
    rows = [_source_row(source) for source in known.sources]
    heads = ("Source", "From", "Weight", "Documents", "Text", "Training tokens", "Held out")
    text = "## Data\n\n" + _table(heads, rows)
    prepared = known.prepared
    said = [
        f"{value:,} {what}"
        for key, what in _PREPARED.items()
        if isinstance(value := prepared.get(key), int)
    ]
    if said:
        text += f"\n\nIn all {_listed(said)}."
    if isinstance(mark := prepared.get("fingerprint"), str):
        text += f" The prepared data's fingerprint is `{mark[:16]}`."
    return text


def _source_row(source: SourceFacts) -> tuple[str, ...]:
    def said(value: float | None) -> str:
        return "" if value is None else count(value)

    weight = "" if source.weight is None else f"{source.weight:g}"
    size = "" if source.n_bytes is None else f"{source.n_bytes / 1e6:,.1f} MB"
    return (
        source.name,
        source.origin,
        weight,
        said(source.documents),
        size,
        said(source.train_tokens),
        said(source.val_tokens),
    )


def _training(known: CardFacts, options: CardOptions) -> str:
    facts = known.facts
    if facts is None:
        return ""
    parts = ["## Training"]
    said = []
    if facts.recipe is not None:
        said.append(f"Recipe `{facts.recipe}`.")
    if facts.seconds is not None:
        where = f" on {facts.devices} x {facts.device}" if facts.device else ""
        said.append(f"{duration(facts.seconds)}{where} for {count(facts.step)} steps.")
    hours = facts.device_hours
    rate = facts.price if options.price is None else options.price
    if hours is not None and rate is not None:
        said.append(f"Cost: ${hours * rate:,.2f}, at ${rate:g} an hour and device.")
    if hours is not None and options.watts is not None:
        energy = significant(hours * options.watts / 1000, 3)
        said.append(f"Energy: {energy} kWh, at {options.watts:g} W a device.")
    parts.append(" ".join(said))
    if known.record is not None and len(known.record.training):
        parts.append(f"![Training curves]({CARD_CURVES})")
    if known.shows:
        parts.append("What the curves show:\n\n" + "\n".join(f"- {s}" for s in known.shows))
    if known.settings:
        rows = [(f"`{name}`", f"`{json.dumps(value)}`") for name, value in known.settings]
        parts.append("What differs from fromscratch's defaults:")
        parts.append(_table(("Setting", "Value"), rows))
    return "\n\n".join(part for part in parts if part)


def _evaluations(known: CardFacts) -> str:
    rows = []
    held_out = known.validation
    if held_out is not None:
        size = f" ({count(held_out.tokens)} tokens)" if held_out.tokens else ""
        about = f"held-out text of the run{size}"
        if held_out.loss is not None:
            rows.append((about, "loss, nats a token", significant(held_out.loss), ""))
        if held_out.bpb is not None:
            rows.append((about, "bits per byte", significant(held_out.bpb), _yardsticks(known)))
    for record in known.evals:
        for name, metric in record.metrics.items():
            value = significant(metric.value)
            if metric.stderr is not None and math.isfinite(metric.stderr):
                value += f" \u00b1 {significant(metric.stderr, 2)}"
            others = ", ".join(f"{k}: {significant(v)}" for k, v in metric.reference.items())
            about = f"{record.data.name}{f' (n = {count(metric.n)})' if metric.n else ''}"
            rows.append((about, _METRICS.get(name, name.replace("_", " ")), value, others))
    if not rows:
        return "## Evaluations\n\nThese weights were not evaluated."
    text = "## Evaluations\n\n" + _table(("Data", "Measure", "Value", "Others"), rows)
    if known.other_evals:
        text += f"\n\nNot shown, being of other checkpoints: {count(known.other_evals)}."
    return text


def _yardsticks(known: CardFacts) -> str:
    others = known.record.yardsticks if known.record is not None else ()
    of_others = [one for one in others if not one.name.startswith("this model")]
    return ", ".join(f"{one.name}: {significant(one.bpb)}" for one in of_others)


def _limits(bundle: ModelBundle, known: CardFacts) -> str:
    total = sum(p.numel() for p in bundle.model.parameters())
    limits = [
        "It writes what its training text makes likely, true or not. Nothing was done to keep it "
        "from wrong, biased or harmful words; do not let it decide or advise.",
        f"It sees {count(bundle.model.config.context)} tokens at most, and knows nothing of what "
        "came before them.",
    ]
    if bundle.template is None:
        limits.append("It was not finetuned: it continues text, and does not follow instructions.")
    tokens = known.weights.tokens
    if tokens and known.base is None and tokens / total < _CHINCHILLA:
        limits.append(
            f"It saw {tokens / total:.2g} tokens a parameter; about {_CHINCHILLA} are the best use "
            "of a budget (Hoffmann et al. 2022), so a smaller model would do as well."
        )
    if known.sources:
        names = _listed([s.hub_name or s.origin for s in known.sources])
        limits.append(f"It knows the languages and subjects of {names}, and hardly any other.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _licence(options: CardOptions) -> str:
    if options.licence is not None:
        return ""
    return (
        "## Licence\n\nNobody has chosen a licence for these weights yet. What the training text's "
        "licences ask for holds in any case."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what stands in a cell cannot end it."""
    filled = [n for n in range(len(heads)) if not heads[n] or any(row[n] for row in rows)]
    lines = [[heads[n] for n in filled], ["---"] * len(filled)]
    lines += [[row[n].replace("|", "\\|").replace("\n", " ") for n in filled] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    if len(distinct) < 2:
        return "".join(distinct)
    return f"{', '.join(distinct[:-1])} and {distinct[-1]}"
