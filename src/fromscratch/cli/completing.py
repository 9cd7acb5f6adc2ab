"""What the shell offers when Tab is pressed: recipes, their keys and values, runs, data.

In: the word so far. Out: whole words, each with a few words about it where a shell shows them. No
torch is loaded, no network is asked, and no more than two folders are looked into: an answer comes
before a person has noticed that there was a question.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Offer: TypeAlias = str | tuple[str, str]

_MOST = 200


def recipes(incomplete: str) -> list[Offer]:
    """Shipped recipes with the first line that describes them, and .toml files."""
    import tomllib

    from fromscratch.runs.recipe_files import read_recipe, shipped_recipes

    found: list[Offer] = []
    for name in shipped_recipes():
        if name.startswith(incomplete):
            said = tomllib.loads(read_recipe(name)[1]).get("description", "")
            found.append((name, str(said).split("\n")[0]) if said else name)
    return [*found, *_below(incomplete, lambda path: path.suffix == ".toml")]


def overrides(ctx: Any, incomplete: str) -> list[Offer]:
    """Keys of a recipe with `=`; behind that, their values where they can be counted."""
    from fromscratch.runs.recipe_keys import recipe_keys

    keys = recipe_keys()
    apart = _key_before_the_cursor(ctx)
    key, equals, begun = incomplete.partition("=")
    if apart is not None:  # bash takes a word apart at `=`, and wants what stands behind it
        return [*_values(apart, incomplete)]
    if equals:
        return [f"{key}={value}" for value in _values(key, begun)]
    names = [name for name in keys if name.startswith(incomplete)]
    if "." not in incomplete:  # the tables first: a hundred keys at once help nobody
        tables = dict.fromkeys(
            f"{name.partition('.')[0]}." if "." in name else f"{name}=" for name in names
        )
        if len(tables) > 1:
            return [*tables]
    if len(names) == 1:
        return _one_key(ctx, names[0])
    return [(f"{name}=", keys[name].words) if keys[name].words else f"{name}=" for name in names]


def _key_before_the_cursor(ctx: Any) -> str | None:
    """The key whose value is typed, where the shell made words of their own of key and `=`."""
    words: list[str] = list(ctx.params.get("overrides") or ctx.params.get("settings") or [])
    if len(words) >= 2 and words[-1] == "=":
        return words[-2]
    line = os.environ.get("COMP_WORDS", "").split("\n")  # the protocol of bash
    place = os.environ.get("COMP_CWORD", "")
    is_at_equals = place.isdecimal() and line[int(place) : int(place) + 1] == ["="]
    return words[-1] if is_at_equals and words else None


def _values(key: str, begun: str) -> list[str]:
    from fromscratch.runs.recipe_keys import recipe_keys

    if key == "data.path":
        return _names(paths(begun))
    known = recipe_keys().get(key)
    return [c for c in (known.choices if known else ()) if c.startswith(begun)]


def _one_key(ctx: Any, key: str) -> list[Offer]:
    """The only key left, twice: a shell that has two words to offer adds no blank behind `=`."""
    values = _values(key, "")
    if values and key != "data.path":
        return [f"{key}={value}" for value in values] if len(values) > 1 else [f"{key}="]
    return [f"{key}=", f"{key}={_value_now(ctx, key)}"]


def _value_now(ctx: Any, key: str) -> str:
    """What the recipe that was typed says, or else the schema; VALUE where neither does."""
    import tomllib

    from fromscratch.foundation.errors import UserError
    from fromscratch.runs.recipe_files import read_recipe
    from fromscratch.runs.recipe_keys import recipe_keys

    value: Any = None
    try:
        value = tomllib.loads(read_recipe(str(ctx.params.get("recipe")))[1])
    except (UserError, tomllib.TOMLDecodeError):
        value = {}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    value = recipe_keys()[key].default if value is None else value
    return "VALUE" if value is None or isinstance(value, dict) else str(value).replace(" ", "")


def runs(incomplete: str) -> list[Offer]:
    """Folders of runs: those in runs/, and what the path so far leads to."""
    from fromscratch.foundation.names import RUN_METRICS, RUN_RECIPE

    return _folders(incomplete, ("runs", "."), (RUN_RECIPE, RUN_METRICS))


def models(incomplete: str) -> list[Offer]:
    """Runs, and folders with a config.json."""
    from fromscratch.foundation.names import CHECKPOINT_CONFIG, RUN_RECIPE

    return _folders(incomplete, ("runs", "."), (RUN_RECIPE, CHECKPOINT_CONFIG))


def examined(incomplete: str) -> list[Offer]:
    """What the doctor looks at: recipes, runs, models and prepared data."""
    return [*dict.fromkeys([*recipes(incomplete), *models(incomplete), *prepared(incomplete)])]


def prepared(incomplete: str) -> list[Offer]:
    """Folders that `prepare` wrote."""
    from fromscratch.foundation.names import DATA_MANIFEST

    return _folders(incomplete, ("prepared", "."), (DATA_MANIFEST,))


def paths(incomplete: str) -> list[Offer]:
    """Files and folders."""
    return _below(incomplete, lambda path: True)


def tokenizers(incomplete: str) -> list[Offer]:
    """Their names, and folders."""
    names: list[Offer] = [
        name for name in ("gpt2", "bytes", "chars", "bpe:") if name.startswith(incomplete)
    ]
    return [*names, *_below(incomplete, Path.is_dir)]


def templates(incomplete: str) -> list[Offer]:
    """Chat templates by name."""
    from fromscratch.chat.template import template_names

    return [name for name in template_names() if name.startswith(incomplete)]


def gpus(incomplete: str) -> list[Offer]:
    """The GPUs whose peak is known, and the one that was measured."""
    from fromscratch.foundation.accelerators import ACCELERATORS

    return [
        name
        for name in ("here", *(card.key for card in ACCELERATORS))
        if name.startswith(incomplete)
    ]


def _fixed(*words: str) -> Callable[[str], list[Offer]]:
    def complete(incomplete: str) -> list[Offer]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


devices = _fixed("auto", "cpu", "cuda", "mps")
dtypes = _fixed("auto", "float32", "bfloat16", "float16")
quantized = _fixed("int8")
targets = _fixed("gguf", "hf", "space")
gguf_types = _fixed("f32", "f16", "q8_0")


def _folders(incomplete: str, where: Iterable[str], marks: tuple[str, ...]) -> list[Offer]:
    """Folders that hold one of some files; while none is named, from the usual places."""

    def is_one(folder: Path) -> bool:
        return any((folder / mark).is_file() for mark in marks)

    if not incomplete:
        usual: list[Offer] = [
            str(folder) for place in where for folder in _children(Path(place)) if is_one(folder)
        ]
        if usual:
            return list(dict.fromkeys(usual))[:_MOST]
    found = _names(_below(incomplete, Path.is_dir, is_one))
    return [name.rstrip("/") if is_one(Path(name)) else name for name in found]


def _below(
    incomplete: str,
    wanted: Callable[[Path], bool],
    is_one: Callable[[Path], bool] = lambda folder: False,
) -> list[Offer]:
    """Paths that begin with what was typed; of an only folder, what is in it, to go on from."""
    folder, slash, begun = incomplete.rpartition("/")
    base = Path(f"{folder}{slash}" or ".").expanduser()
    found: list[Offer] = []
    for path in _children(base):
        name = f"{folder}{slash}{path.name}"
        if path.name.startswith(begun) and (begun.startswith(".") or path.name[0] != "."):
            if path.is_dir():
                found.append(f"{name}/")
            elif wanted(path):
                found.append(name)
    (only, *others) = _names(found) or [""]
    if only.endswith("/") and not others and only != incomplete and not is_one(Path(only)):
        return _below(only, wanted, is_one) or found
    return found[:_MOST]


def _children(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:  # is not there, or may not be read
        return


def _names(offers: Iterable[Offer]) -> list[str]:
    return [offer if isinstance(offer, str) else offer[0] for offer in offers]
