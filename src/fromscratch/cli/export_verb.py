"""`fromscratch export`: a model for other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fromscratch.cli.show import print_json, say, size
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.working import working
from fromscratch.foundation.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from fromscratch.checkpoint.bundle import ModelBundle
    from fromscratch.export.comparing import Difference
    from fromscratch.export.push import Kind

_TARGETS = ("gguf", "hf", "space")
_TYPES = ("f32", "f16", "q8_0")
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class _Wanted:
    """What was typed, as far as all targets share it."""

    model: str
    out: Path
    name: str | None
    licence: str | None
    push: str | None
    public: bool
    as_json: bool


def run(
    model: str = argument("MODEL"),
    to: str = option("to", ...),
    out: Path = option("out", ..., of="a file (gguf) or folder (hf, space); new"),
    type: str = option("type", show_default="f16"),
    dtype: str = option("dtype", of="for hf and space", show_default="float32"),
    name: str = option("name", of="the model", show_default="as --out"),
    licence: str = option("license"),
    template: str = option("template", of="where the folder has one that is not known here"),
    approximate_gelu: bool = option("approximate-gelu", False),
    push: str = option("push"),
    public: bool = option("public", False),
    price: float = option("price", min=0.0, of="for the model's card"),
    watts: float = option("watts", min=0.0),
    as_json: bool = option("json", False),
) -> None:
    """Writes a model for other programs, reads it back with them and compares, or fails.

    Example: fromscratch export runs/try --to hf --out my-model
    """
    _check_choice("--to", to, _TARGETS)
    _check_choice("--type", type, _TYPES)
    _check_choice("--dtype", dtype, _DTYPES)
    _check_fits(to, "--type", type is not None, ("gguf",))
    _check_fits(to, "--approximate-gelu", approximate_gelu, ("gguf",))
    _check_fits(to, "--dtype", dtype is not None, ("hf", "space"))
    _check_fits(to, "--push", push is not None, ("hf", "space"))
    _check_fits(to, "--public", public, ("hf", "space"))
    _check_fits(to, "--price", price is not None, ("hf",))
    _check_fits(to, "--watts", watts is not None, ("hf",))
    if public and push is None:
        raise UserError("--public is about what --push makes.", fix="Add --push ORG/NAME.")
    wanted = _Wanted(model, out, name, licence, push, public, as_json)
    if push is not None:
        from fromscratch.export.push import check_push

        check_push(push, _kind(to), public=public)
    with working("reading the model"):
        bundle = _load(model, template)
    if to == "gguf":
        _to_gguf(bundle, wanted, type or "f16", approximate_gelu)
    elif to == "hf":
        _to_hf(bundle, wanted, dtype or "float32", price, watts)
    else:
        _to_space(bundle, wanted, dtype or "float32")


def _check_choice(option: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise UserError(
            f'{option} "{value}" is not known.{did_you_mean(value, known)}',
            fix=f"Choose {', '.join(known[:-1])} or {known[-1]}.",
        )


def _check_fits(to: str, option: str, is_given: bool, takers: tuple[str, ...]) -> None:
    if is_given and to not in takers:
        raise UserError(f"{option} is for --to {' and --to '.join(takers)}.", fix="Leave it out.")


def _kind(to: str) -> Kind:
    return "space" if to == "space" else "model"


def _load(model: str, template: str | None) -> ModelBundle:
    """The model, with the chat template that was named."""
    from fromscratch.chat.template import template_named
    from fromscratch.checkpoint.bundle import load_bundle, with_template

    chosen = template_named(template) if template is not None else None
    bundle = load_bundle(model)
    if chosen is None:
        return bundle
    missing = [t for t in chosen.special_tokens if t not in bundle.tokenizer.special_ids]
    if missing:
        raise UserError(
            f'The model has no special token "{missing[0]}", which the chat template '
            f'"{chosen.name}" needs: it was not finetuned with that.',
            fix="Leave --template out, or finetune the model with this template first.",
        )
    return with_template(bundle, chosen)


def _to_gguf(bundle: ModelBundle, wanted: _Wanted, type: str, approximate_gelu: bool) -> None:
    from fromscratch.export.gguf_model import FileType
    from fromscratch.export.to_gguf import export_gguf

    kinds: tuple[FileType, ...] = get_args(FileType)
    with working("writing, reading back, comparing"):
        made = export_gguf(
            bundle,
            wanted.out,
            type=kinds[kinds.index(type)],
            name=wanted.name,
            licence=wanted.licence,
            approximate_gelu=approximate_gelu,
        )
    if wanted.as_json:
        print_json(asdict(made))
        return
    check = made.check
    say(f"{made.path} ({size(made.n_bytes)}, {type})")
    say(f"read back by transformers: {_difference(check.reader)}")
    if check.llama_greedy is None:
        say("llama.cpp was not asked: llama-cpp-python is not installed")
    else:
        say(
            f"read back by llama.cpp (llama-cpp-python {check.llama_version}): the same ids of "
            f"texts; {check.llama_greedy} of {check.llama_asked} greedy tokens are the same"
        )
    if check.rounding.largest:
        say(f"against the model as it was: {_difference(check.rounding)}")
    told = "".join(f", {key}={value}" for key, value in made.told.items())
    say(
        f'in transformers: AutoModelForCausalLM.from_pretrained("{made.path.parent}", '
        f'gguf_file="{made.path.name}"{told})'
    )


def _to_hf(
    bundle: ModelBundle, wanted: _Wanted, dtype: str, price: float | None, watts: float | None
) -> None:
    from fromscratch.export.to_hf import DType, export_hf

    dtypes: tuple[DType, ...] = get_args(DType)
    with working("writing, reading back, comparing"):
        made = export_hf(
            wanted.model,
            bundle,
            wanted.out,
            dtype=dtypes[dtypes.index(dtype)],
            name=wanted.name or wanted.push,
            licence=wanted.licence,
            price=price,
            watts=watts,
        )
    address = _pushed(wanted, "model")
    if wanted.as_json:
        print_json(asdict(made) | {"pushed": address})
        return
    say(f"{made.path} ({size(made.n_bytes)}, {dtype})")
    say(f"read back by transformers: {_difference(made.reader)}")
    if made.rounding.largest:
        say(f"against the model as it was: {_difference(made.rounding)}")
    also = f", and of a conversation ({made.template})" if made.template is not None else ""
    say(f"the same ids of texts{also}")
    if wanted.licence is None:
        say("no licence was chosen: --license NAME puts one on the card")
    _say_pushed(address, wanted)


def _to_space(bundle: ModelBundle, wanted: _Wanted, dtype: str) -> None:
    from fromscratch.export.to_hf import DType
    from fromscratch.export.to_space import export_space

    dtypes: tuple[DType, ...] = get_args(DType)
    with working("writing, reading back, comparing"):
        made = export_space(
            bundle,
            wanted.out,
            dtype=dtypes[dtypes.index(dtype)],
            name=wanted.name or wanted.push,
            licence=wanted.licence,
        )
    address = _pushed(wanted, "space")
    if wanted.as_json:
        print_json(asdict(made) | {"pushed": address})
        return
    say(f"{made.path} ({size(made.n_bytes)}, {dtype})")
    say(f"read back by transformers: {_difference(made.reader)}")
    say(f"try it: cd {made.path} && pip install -r requirements.txt && python app.py")
    _say_pushed(address, wanted)


def _pushed(wanted: _Wanted, kind: Kind) -> str | None:
    if wanted.push is None:
        return None
    from fromscratch.export.push import push_folder

    with working("uploading"):
        return push_folder(wanted.out, wanted.push, kind, public=wanted.public)


def _say_pushed(address: str | None, wanted: _Wanted) -> None:
    if address is not None:
        say(f"uploaded, {'public' if wanted.public else 'private'}: {address}")


def _difference(found: Difference) -> str:
    text = f"logits differ by {found.largest:.1e} at most (the largest is {found.scale:.3g})"
    if found.same_top < 1 or found.kl > 1e-6:
        text += (
            f", {found.kl:.1e} nats a token, the likeliest token is the same at "
            f"{found.same_top:.1%} of {found.positions:,} positions"
        )
    return text
