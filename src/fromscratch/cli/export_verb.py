"""`fromscratch export`: a model for other programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from fromscratch.cli.show import say, size
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
    model: str = typer.Argument(
        ..., help="A run, a checkpoint, a Hugging Face folder, or ORG/NAME on the hub."
    ),
    to: str = typer.Option(
        ...,
        help="gguf: a file for llama.cpp, Ollama, LM Studio; hf: a folder for transformers, with a "
        "model card; space: a Hugging Face Space to chat in.",
    ),
    out: Path = typer.Option(..., help="The file (gguf) or folder (hf, space) to write; new."),
    type: str = typer.Option(None, help="Of gguf: f32, f16 or q8_0. [default: f16]"),
    dtype: str = typer.Option(
        None, help="Of hf and space: float32, bfloat16 or float16. [default: float32]"
    ),
    name: str = typer.Option(None, help="What the model is called. [default: as --out]"),
    licence: str = typer.Option(
        None, "--license", help="The licence that you choose, as on the hub: mit, apache-2.0, ..."
    ),
    template: str = typer.Option(
        None, help="The chat template, where the folder has one that is not known here."
    ),
    approximate_gelu: bool = typer.Option(
        False, "--approximate-gelu", help="Of gguf: accept the tanh approximation of GELU."
    ),
    push: str = typer.Option(None, help="Of hf and space: also upload, to ORG/NAME on the hub."),
    public: bool = typer.Option(False, "--public", help="What --push makes may be seen by all."),
    price: float = typer.Option(None, min=0.0, help="Dollars an hour and device, for the card."),
    watts: float = typer.Option(None, min=0.0, help="Power of a device, for the card's energy."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
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
        typer.echo(json.dumps(asdict(made), default=str, indent=2))
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
        typer.echo(json.dumps(asdict(made) | {"pushed": address}, default=str, indent=2))
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
        typer.echo(json.dumps(asdict(made) | {"pushed": address}, default=str, indent=2))
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
