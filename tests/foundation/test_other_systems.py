"""What can be known on one machine of others: Windows, network folders, other releases of Python.

The source itself is read, so that a branch which never runs here is seen too.
"""

from __future__ import annotations

import ast
import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import pytest

import fromscratch
from fromscratch.data.sources import parse_sources
from fromscratch.foundation import files, names
from fromscratch.foundation.errors import UserError
from fromscratch.runs.opened_data import folder_for
from fromscratch.runs.recipe_files import load_recipe, parse_recipe

ROOT = Path(fromscratch.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}

# docs.python.org/3/library: "Availability: Unix", "not Windows".
UNIX_MODULES = {
    "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios",
    "tty",
}  # fmt: skip
UNIX_NAMES = {
    "os": {
        "chown", "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
        "getloadavg", "getpgid", "getuid", "killpg", "lchown", "mkfifo", "nice", "posix_fadvise",
        "posix_fallocate", "posix_spawn", "sched_getaffinity", "sched_setaffinity", "setpgid",
        "setsid", "statvfs", "sync", "sysconf", "uname", "wait4",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1",
        "SIGUSR2", "alarm", "pause", "pthread_sigmask", "setitimer", "sigwait",
    },
    "time": {"tzset"},
}  # fmt: skip


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def with_parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def around(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def test_what_only_unix_has_is_imported_where_its_absence_is_expected():
    for path, tree in TREES.items():
        parents = with_parents(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules = {(node.module or "").split(".")[0]}
            else:
                continue
            if not modules & UNIX_MODULES:
                continue
            caught = [
                ast.unparse(n.handlers[0] if isinstance(n, ast.Try) else n.items[0])
                for n in around(node, parents)
                if isinstance(n, ast.Try | ast.With)
            ]
            expected = any("ImportError" in text for text in caught)
            assert expected, f"{where(path, node)}: {modules} is not on Windows"


def test_what_only_unix_can_do_is_asked_for_first():
    for path, tree in TREES.items():
        parents = with_parents(tree)
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            if node.attr not in UNIX_NAMES.get(node.value.id, ()):
                continue
            inside = [
                ast.unparse(n) for n in around(node, parents) if not isinstance(n, ast.Module)
            ]
            expected = any("AttributeError" in code or "hasattr" in code for code in inside)
            expected |= f'hasattr({node.value.id}, "{node.attr}")' in text
            assert expected, f"{where(path, node)}: {ast.unparse(node)} is not on Windows"


def test_every_text_is_read_and_written_in_utf8():
    """Windows' own encoding is another, and so is that of a bare container."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            said = {keyword.arg for keyword in node.keywords}
            if called in ("run", "Popen", "check_output"):
                assert not {"text", "universal_newlines"} & said, f"{where(path, node)}: encoding="
            if called in ("read_text", "write_text"):
                positional = 1 if called == "read_text" else 2
                assert "encoding" in said or len(node.args) >= positional, where(path, node)
            if called == "open" and owner in ("", "gzip", "io"):
                modes = [*node.args[1:2], *[k.value for k in node.keywords if k.arg == "mode"]]
                mode = ast.unparse(modes[0]) if modes else "'r'"
                if owner == "gzip" and "t" not in mode:
                    continue
                assert "b" in mode or "encoding" in said, f"{where(path, node)}: say encoding="


def test_no_process_is_forked():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("get_context", "set_start_method")
            ):
                assert ast.unparse(node.args[0]) == "'spawn'", where(path, node)
            assert not (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in ("multiprocessing.Process", "multiprocessing.Pool")
            ), where(path, node)


RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def is_fine_on_windows(name: str) -> bool:
    return not (re.search(r'[<>:"/\\|?*\x00-\x1f]', name) or RESERVED.fullmatch(name)) and (
        name == name.rstrip(". ") and PureWindowsPath(name).name == name
    )


def test_every_name_on_disk_is_one_on_windows_too():
    constants = [v for k, v in vars(names).items() if k.isupper() and isinstance(v, str)]
    assert len(constants) > 40
    made = [
        names.step_folder(500), names.shard_file("train", 0), names.documents_file("val", 1),
        names.scratch_folder("run"), names.import_folder("run"), names.export_folder("m.gguf"),
        names.spool_file("data"), names.part_folder(3), names.trial_folder(7),
        names.trial_lock_file(7), names.landscape_file("ab" * 20), files.temporary_name("latest"),
        names.hub_copy_file("0" * 64, "sample/10BT/a:b?c*.parquet"),
        names.hub_lease_file(names.hub_copy_file("0" * 64, "con"), 5, "me"),
    ]  # fmt: skip
    for name in [*constants, *made]:
        assert is_fine_on_windows(name), name
    for text in (r"C:\texts\diary.txt", "hf:org/name@main:*.parquet", "what?", "nul", "a. "):
        assert is_fine_on_windows(folder_for(text, []).name), text
    assert not is_fine_on_windows("aux.json")
    assert not is_fine_on_windows("step:5")


def test_a_windows_path_is_a_path():
    path = r"C:\Users\ada\new texts"
    assert load_recipe("try", [f"data.path={path}"]).data.path == path
    recipe = load_recipe("try", [f"data.path={path}"])
    assert tomllib.loads(recipe.to_toml())["data"]["path"] == path
    with pytest.raises(UserError, match="single quotes"):
        parse_recipe(f'[data]\npath = "{path}"\n', name="mine")
    assert [source.spec for source in parse_sources([path])] == [path], "the drive is no scheme"
    assert [source.spec for source in parse_sources([f"prose={path}"])] == [path]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_does_not_force_folders_is_no_failure(tmp_path, monkeypatch, number):
    force = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        force(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_atomically(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_a_disk_that_fails_is_one(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        files.fsync_folder(tmp_path)


def test_nothing_newer_than_the_oldest_python_that_is_promised():
    """Syntax only: names that a later release brought are ruff's and mypy's to find."""
    metadata = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = re.fullmatch(r">=3\.(\d+)", metadata["project"]["requires-python"])
    assert oldest
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, filename=str(path), feature_version=(3, int(oldest[1])))
    assert metadata["tool"]["ruff"]["target-version"] == f"py3{oldest[1]}"
