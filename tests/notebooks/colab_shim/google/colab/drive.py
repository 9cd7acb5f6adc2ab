"""A Drive that is a folder of this machine, with what is in it from the time before."""

from pathlib import Path


def mount(mountpoint: str) -> None:
    (Path(mountpoint) / "MyDrive").mkdir(parents=True, exist_ok=True)
    print(f"Mounted at {mountpoint}")


def flush_and_unmount() -> None:
    print("unmounted")
