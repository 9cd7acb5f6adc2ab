"""Which files of a data set on the hub are its training text.

In: the list of a repository's files, what its card says, and what the user asked for. Out: the
files to read, sorted by path, and a count of what was left out. Nothing here touches the network.

The rules follow the `datasets` library, so that a name means the same in both: the card's `configs`
first; where there is none, the split is guessed from whole words in file and folder names. What
differs: only the training split is taken; a file belongs to one split (there, one like
`train/test.jsonl` is in both); and of one text in several formats only the format with the most
bytes is read, because two copies of a corpus would count every document twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fromscratch.foundation.errors import UserError, did_you_mean

_FORMATS = {"parquet": "Parquet", "jsonl": "JSON", "ndjson": "JSON", "json": "JSON", "txt": "text"}
_COMPRESSED = {"gz", "zst"}

# JSON and text that tell about a data set instead of being it.
_NOT_DATA = {
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
    "license.txt",
    "readme.txt",
    "requirements.txt",
}

_SPLIT_WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "dev", "val"},
    "test": {"test", "testing", "eval", "evaluation"},
}
# As the hub's own tools write it; the split may have any name here.
_SHARD_OF_A_SPLIT = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*")
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at one commit.

    Attributes:
        path: Where it lies in the repository.
        size: Bytes.
        oid: Pins the content: sha256 as hex (64 digits) for a large file, git's blob hash (sha1
            of a header and the content, 40 digits) for one that lies in git itself.
    """

    path: str
    size: int
    oid: str


@dataclass(frozen=True)
class Configuration:
    """A named part of a data set, as its card declares it.

    Attributes:
        name: What stands after the colon of `hf:ORG/NAME:CONFIG`.
        splits: Patterns (globs or paths) by split; empty where the card leaves the files to guess.
        folder: The folder below which files are guessed; "" for the whole repository.
    """

    name: str
    splits: Mapping[str, tuple[str, ...]]
    folder: str = ""


@dataclass(frozen=True)
class Choice:
    """The files to read.

    Attributes:
        files: Sorted by path.
        left_out: Number of files by what they are, such as `{"split test": 2, "JSON": 1}`.
    """

    files: list[HubFile]
    left_out: dict[str, int] = field(default_factory=dict)


def format_of(path: str) -> str | None:
    """`Parquet`, `JSON` or `text`; None for what cannot be read as documents."""
    parts = path.split("/")
    name = parts[-1].lower()
    if any(part.startswith((".", "__")) for part in parts) or name in _NOT_DATA:
        return None
    suffixes = name.split(".")[1:]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes = suffixes[:-1]
        if suffixes and suffixes[-1] == "parquet":
            return None
    return _FORMATS.get(suffixes[-1]) if suffixes else None


def split_of(path: str, folder: str = "") -> str | None:
    """The split that a path's words tell of, or None.

    Args:
        path: Of a file in the repository. Its own name counts before the folders above it.
        folder: Words in the name of this folder, which holds the file, tell nothing.
    """
    if match := _SHARD_OF_A_SPLIT.fullmatch(path):
        split = match["split"]
        return next((s for s, names in _SPLIT_WORDS.items() if split in names), split)
    below = path[len(folder) + 1 :] if folder else path
    for part in reversed(below.split("/")):
        words = set(_BETWEEN_WORDS.split(part.lower()))
        for split, names in _SPLIT_WORDS.items():
            if words & names:
                return split
    return None


def configurations(card: Mapping[str, Any]) -> tuple[dict[str, Configuration], str | None]:
    """The configurations that a card's front matter declares, and the name of the default one."""
    found: dict[str, Configuration] = {}
    default = None
    declared = card.get("configs")
    for entry in declared if isinstance(declared, list) else []:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("config_name", "default"))
        folder = str(entry.get("data_dir") or "").strip("/").removeprefix("./")
        splits = {
            split: tuple(_below(folder, pattern) for pattern in patterns)
            for split, patterns in _splits(entry.get("data_files")).items()
        }
        found[name] = Configuration(name, splits, folder)
        if entry.get("default") is True or name == "default":
            default = name
    if len(found) == 1:
        default = next(iter(found))
    return found, default


def _splits(data_files: Any) -> dict[str, list[str]]:
    """The three spellings of `data_files`: a pattern, a list of patterns, a list of splits."""
    if data_files is None:
        return {}
    splits: dict[str, list[str]] = {}
    for item in data_files if isinstance(data_files, list) else [data_files]:
        split, paths = "train", item
        if isinstance(item, dict):
            split, paths = str(item.get("split", "train")), item.get("path", [])
        for path in paths if isinstance(paths, list) else [paths]:
            splits.setdefault(split, []).append(str(path).removeprefix("./"))
    return splits


def _below(folder: str, pattern: str) -> str:
    return f"{folder}/{pattern}" if folder else pattern


def has_magic(pattern: str) -> bool:
    """Whether a pattern is a glob rather than a path."""
    return any(sign in pattern for sign in "*?[")


def folder_of(pattern: str) -> str:
    """The deepest folder that holds everything a pattern can match; "" for the whole repository."""
    parts = pattern.split("/")
    for position, part in enumerate(parts):
        if has_magic(part):
            return "/".join(parts[:position])
    return "/".join(parts[:-1])


def train_patterns(configuration: Configuration, dataset: str) -> tuple[str, ...]:
    """The patterns of the split to train on: `train`, or the only one.

    Raises:
        UserError: There are several splits and none is called train.
    """
    splits = configuration.splits
    if "train" in splits:
        return splits["train"]
    if len(splits) == 1:
        return next(iter(splits.values()))
    first = next(iter(splits.values()))[0]
    raise UserError(
        f'{dataset}: the configuration "{configuration.name}" has no split called train; it has '
        f"{', '.join(sorted(splits))}.",
        fix=f"Name the files of one, as in hf:{dataset}:{first}",
    )


def choose_by_pattern(files: Iterable[HubFile], patterns: Iterable[str]) -> Choice:
    """The data files that a pattern matches; a pattern that is a folder means all below it."""
    matchers = [_matcher(pattern) for pattern in patterns]
    chosen, left_out = {}, Counter[str]()
    for file in files:
        if not any(matches(file.path) for matches in matchers):
            continue
        if format_of(file.path):
            chosen[file.path] = file
        else:
            left_out[_suffix(file.path)] += 1
    return Choice([chosen[path] for path in sorted(chosen)], dict(left_out))


def _matcher(pattern: str) -> Any:
    pattern = pattern.strip("/")
    if has_magic(pattern):
        from fsspec.utils import glob_translate  # type: ignore[import-untyped]

        expression = re.compile(glob_translate(pattern))
        return lambda path: expression.match(path) is not None
    return lambda path: path == pattern or path.startswith(f"{pattern}/")


def choose_by_guess(files: Iterable[HubFile], folder: str, dataset: str) -> Choice:
    """The data files below a folder of which no card tells: the training split, one format.

    Raises:
        UserError: The names tell of several splits and of none to train on.
    """
    left_out = Counter[str]()
    by_split: dict[str | None, list[HubFile]] = {}
    for file in files:
        if folder and not file.path.startswith(f"{folder}/"):
            continue
        if format_of(file.path):
            by_split.setdefault(split_of(file.path, folder), []).append(file)
        else:
            left_out[_suffix(file.path)] += 1
    if not by_split:
        return Choice([], dict(left_out))
    split = next((s for s in ("train", None) if s in by_split), None)
    if split not in by_split:
        if len(by_split) > 1:
            names = sorted(str(s) for s in by_split)
            raise UserError(
                f"{dataset}: its files tell of the splits {', '.join(names)}, none of them train.",
                fix=f"Name the files to read, as in hf:{dataset}:"
                f"{_below(folder, f'**/*{names[0]}*')}",
            )
        split = next(iter(by_split))
    for other, its_files in by_split.items():
        if other != split:
            left_out[f"split {other}" if other else "of no split"] += len(its_files)
    chosen = _largest_format(by_split[split], left_out)
    return Choice(sorted(chosen, key=lambda f: f.path), dict(left_out))


def _largest_format(files: list[HubFile], left_out: Counter[str]) -> list[HubFile]:
    """The files of the format that has the most bytes; the others are counted as left out."""
    sizes, counts = Counter[str](), Counter[str]()
    for file in files:
        kind = str(format_of(file.path))
        sizes[kind] += file.size
        counts[kind] += 1
    best = max(sizes, key=lambda kind: (sizes[kind], kind))
    left_out.update({kind: n for kind, n in counts.items() if kind != best})
    return [file for file in files if format_of(file.path) == best]


def _suffix(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return f".{name.rsplit('.', 1)[1]}" if "." in name else name


def no_such_part(
    dataset: str, wanted: str, configs: Iterable[str], files: Iterable[HubFile]
) -> UserError:
    """What to say when `wanted` is neither a configuration nor a folder nor a glob that matches."""
    configs = list(configs)
    paths = [file.path for file in files if format_of(file.path)]
    folders = sorted(
        {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)}
    )
    tail = [f for f in folders if f.rsplit("/", 1)[-1].lower() == wanted.lower()]
    known = configs or folders or sorted(paths)
    hint = (
        f' Did you mean "{tail[0]}"?'
        if tail
        else did_you_mean(wanted, [*configs, *folders, *paths])
    )
    return UserError(
        f'{dataset} has no configuration, folder or file called "{wanted}".{hint}',
        fix=f"It has: {listed(known)}." if known else None,
    )


def listed(names: Iterable[str], most: int = 24) -> str:
    """The names, comma between them; no more than `most`, then how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
