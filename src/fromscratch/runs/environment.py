"""What a bug report needs to know of a machine: `fromscratch env`.

Out: sections of names and values that JSON can say. Always true: whatever is missing or broken is
one of the values; nothing is raised, so that the very machine on which nothing works can be
described. Nothing secret is in it (foundation/masking.py).
"""

from __future__ import annotations

import importlib.metadata
import json
import locale
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import fromscratch
from fromscratch.foundation.hardware import precisions_of
from fromscratch.foundation.masking import shown_variables, without_secrets

Section = dict[str, Any]

_GIT_SECONDS, _DRIVER_SECONDS = 5.0, 10.0
_LINE = 300
_WHY = {
    ("cuda", "bf16"): "this GPU has bfloat16 in hardware",
    ("cuda", "fp16"): "this GPU has no bfloat16 in hardware; fp16 comes with a loss scaler",
    ("cpu", "fp32"): "on a CPU 16 bits gain little and cost exactness",
    ("mps", "fp32"): "an Apple GPU multiplies fp32 about as fast as 16 bits",
}


def describe_environment(environment: Mapping[str, str]) -> dict[str, Section]:
    """Everything, by section.

    Args:
        environment: The process's variables.
    """
    home = _value(Path.home)
    parts: dict[str, Callable[[], Section]] = {
        "fromscratch": _fromscratch,
        "python": _python,
        "machine": _machine,
        "torch": _torch,
        "devices": _devices,
        "chosen": _chosen,
        "packages": _packages,
        "folders": lambda: _folders(environment),
        "variables": lambda: dict(shown_variables(environment, _path_or_none(home))),
    }
    found: dict[str, Section] = {}
    for name, make in parts.items():
        made = _value(make)
        found[name] = made if isinstance(made, dict) else {"error": made}
    hidden = _path_or_none(home)
    return {name: _clean(section, hidden) for name, section in found.items()}


# --- ourselves ------------------------------------------------------------------------------------


def _fromscratch() -> Section:
    root = Path(fromscratch.__file__).resolve().parent
    found: Section = {"version": fromscratch.__version__, "folder": str(root)}
    checkout = root.parents[1]
    if (checkout / ".git").exists():
        commit = _answer(["git", "-C", str(checkout), "rev-parse", "HEAD"], _GIT_SECONDS)
        changed = _answer(["git", "-C", str(checkout), "status", "--porcelain"], _GIT_SECONDS)
        # git refuses to read a folder of another user's, and may not be installed.
        found["commit"] = "unknown: git does not answer" if commit is None else commit[:12]
        found["changed_files"] = None if changed is None else len(changed.splitlines())
    with suppress(importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        text = importlib.metadata.distribution("fromscratch").read_text("direct_url.json")
        commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
        if commit:
            found.setdefault("commit", str(commit)[:12])
    return found


def _python() -> Section:
    encodings = f"{sys.stdout.encoding}; files {locale.getpreferredencoding(False)}"
    return {
        "version": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "encoding": f"output {encodings}; file names {sys.getfilesystemencoding()}",
    }


# --- the machine ----------------------------------------------------------------------------------


def _machine() -> Section:
    here = _value(Path.cwd)
    usable = _value(lambda: len(os.sched_getaffinity(0)) if _has_affinity() else os.cpu_count())
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": f"{usable} usable of {os.cpu_count()}",
        "memory": _value(_memory),
        "cwd": str(here),
        "cwd_disk": _value(lambda: _disk(Path.cwd())),
        "terminal": "yes" if sys.stdout is not None and sys.stdout.isatty() else "no",
    }


def _has_affinity() -> bool:
    return hasattr(os, "sched_getaffinity")


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        name = _answer(["sysctl", "-n", "machdep.cpu.brand_string"], _GIT_SECONDS)
        if name:
            return name
    return platform.processor() or platform.machine()


def _memory() -> str:
    total = None
    with suppress(ValueError, OSError, AttributeError):  # Windows has no such question
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    from fromscratch.foundation.host_memory import spare_memory

    spare = spare_memory()
    said = "unknown" if total is None else f"{total / 1e9:.1f} GB"
    return said if spare is None else f"{said}, {spare / 1e9:.1f} GB of it free for this process"


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    kind = _file_system(folder)
    return f"{free / 1e9:.1f} GB free" + (f", {kind}" if kind else "")


def _file_system(folder: Path) -> str | None:
    """The kind of file system, as Linux calls it: a run on a network folder behaves differently."""
    best, kind = -1, None
    with suppress(OSError), open("/proc/mounts", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) < 3:
                continue
            place = Path(fields[1].replace("\\040", " "))
            if folder.resolve().is_relative_to(place) and len(place.parts) > best:
                best, kind = len(place.parts), fields[2]
    return kind


# --- torch and devices ----------------------------------------------------------------------------


def _torch() -> Section:
    try:
        import torch
    except ImportError as error:
        return {"error": f"torch cannot be imported: {error}", "fix": "pip install torch"}
    build: Any = torch.version
    return {
        "version": torch.__version__,
        "built_for": f"CUDA {build.cuda}"
        if build.cuda
        else (f"ROCm {build.hip}" if build.hip else "no CUDA"),
        "cudnn": _value(torch.backends.cudnn.version),
        "threads": torch.get_num_threads(),
        "cpu": _value(torch.backends.cpu.get_cpu_capability),
    }


def _devices() -> Section:
    driver = _answer(
        ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
        _DRIVER_SECONDS,
    )
    found: Section = {"nvidia_driver": "; ".join(driver.splitlines())} if driver else {}
    try:
        import torch
    except (ImportError, OSError):  # said above
        return found | {"error": "without torch nothing is known of them"}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = _value(partial(_cuda, index))
    if torch.backends.mps.is_available():
        found["mps"] = f"{torch.mps.recommended_max_memory() / 1e9:.1f} GB at most"
    found["cpu"] = " and ".join(precisions_of(torch.device("cpu"))) + " in hardware"
    if driver and not torch.cuda.is_available():
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        found["problem"] = (
            f"the driver sees a GPU and torch does not: this torch is built for {built_for}; "
            "pytorch.org/get-started has the command that fits"
        )
    return found


def _cuda(index: int) -> str:
    import torch

    about = torch.cuda.get_device_properties(index)
    free = torch.cuda.mem_get_info(index)[0]
    return (
        f"{about.name}, {about.total_memory / 1e9:.1f} GB, {free / 1e9:.1f} GB free, "
        f"compute capability {about.major}.{about.minor}"
    )


def _chosen() -> Section:
    """What `auto` means here, in the words of a recipe."""
    from fromscratch.foundation.hardware import resolve_device
    from fromscratch.optim.adamw8bit import choose_engine
    from fromscratch.train.compiled import wants_compiling
    from fromscratch.train.precision import choose_precision

    device = resolve_device("auto")
    name = choose_precision("auto", device).name
    return {
        "train.device": str(device),
        "train.precision": f"{name}: {_WHY[device.type, name]}",
        "train.compile": wants_compiling("auto", device),
        "optim.engine": _value(lambda: choose_engine("auto", device)),
    }


# --- packages and folders -------------------------------------------------------------------------


def _packages() -> Section:
    """What is installed of the package's own needs and of each extra's, and what would mend it."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("fromscratch") or []
    except importlib.metadata.PackageNotFoundError:
        return {"error": "fromscratch is not installed as a package, so nothing is known of it"}
    found: dict[str, dict[str, str]] = {}
    incomplete = set()
    for requirement in map(Requirement, lines):
        version = _version_of(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        said = version or "missing"
        if version is not None and not fits:
            said += f" (wants {requirement.specifier})"
        for extra in _extras_of(requirement):
            found.setdefault(extra or "core", {})[requirement.name] = said
            if not fits:
                incomplete.add(extra)
    mending = [f"pip install 'fromscratch{f'[{extra}]' if extra else ''}'" for extra in incomplete]
    return dict(sorted(found.items())) | {"incomplete": sorted(mending)}


def _extras_of(requirement: Any) -> list[str]:
    """The extras that a requirement belongs to; the empty one is the package itself."""
    marker = requirement.marker
    if marker is None or marker.evaluate({"extra": ""}):
        return [""]
    extras = importlib.metadata.metadata("fromscratch").get_all("Provides-Extra") or []
    return [e for e in extras if e != "dev" and marker.evaluate({"extra": e})]


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folders(environment: Mapping[str, str]) -> Section:
    import platformdirs

    hugging_face = environment.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    vocabulary = environment.get("TIKTOKEN_CACHE_DIR") or environment.get("DATA_GYM_CACHE_DIR")
    vocabulary = vocabulary or str(Path(tempfile.gettempdir()) / "data-gym-cache")
    places = {
        "hub_copies": str(platformdirs.user_cache_path("fromscratch")),
        "state": str(platformdirs.user_state_path("fromscratch")),
        "hugging_face": hugging_face,
        "tiktoken": vocabulary,
        "temporary": tempfile.gettempdir(),
    }
    return {name: f"{path}{_state_of(Path(path))}" for name, path in places.items()}


def _state_of(path: Path) -> str:
    if not path.exists():
        return " (not there yet)"
    return "" if os.access(path, os.W_OK) else " (cannot be written to)"


# --- asking without falling -----------------------------------------------------------------------


def _value(ask: Callable[[], Any]) -> Any:
    """An answer, or what went wrong in one line."""
    try:
        return ask()
    except (Exception, SystemExit) as error:
        said = str(error).strip().split("\n")[0][:_LINE]
        return f"unknown ({type(error).__name__}{': ' if said else ''}{said})"


def _answer(command: list[str], seconds: float) -> str | None:
    """What a program prints; None where it is not there, fails or does not end."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _path_or_none(found: object) -> Path | None:
    return found if isinstance(found, Path) else None


def _clean(section: Section, home: Path | None) -> Section:
    """The section without secrets, wherever they came from; commits and hashes of ours stay."""
    kept = {"commit"}
    return {
        name: without_secrets(value, home) if isinstance(value, str) and name not in kept else value
        for name, value in section.items()
    }
