"""Free memory as /proc and cgroups tell it, in trees of files like those of real machines."""

from pathlib import Path

import pytest

from fromscratch.foundation.host_memory import spare_memory

MIB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def machine(available: int, largest: int = 300, now: int = 300) -> dict[str, str]:
    """MiB free, and of this process: the most it ever had, and what it has."""
    return {
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {available * 1024} kB\n",
        "proc/self/status": f"VmHWM:\t{largest * 1024} kB\nVmRSS:\t{now * 1024} kB\n",
        "proc/self/cgroup": "0::/\n",
    }


def test_what_the_machine_has_less_what_was_given_back(tmp_path):
    assert spare_memory(tree(tmp_path, machine(5000))) == 5000 * MIB
    assert spare_memory(tree(tmp_path, machine(5000, largest=1300))) == 4000 * MIB
    assert spare_memory(tree(tmp_path, machine(100, largest=1300))) == -900 * MIB


@pytest.mark.parametrize(
    ("cgroup", "files", "left"),
    [
        (  # a container of its own, version 2; the cache can be dropped
            "0::/",
            {"memory.max": 2000, "memory.current": 1500, "memory.stat": "inactive_file {}\n"},
            2000 - 1500 + 7,
        ),
        (  # a batch job: the group above has the limit
            "0::/slurm/job_1/step_0",
            {
                "slurm/job_1/step_0/memory.max": "max",
                "slurm/job_1/memory.max": 3000,
                "slurm/job_1/memory.current": 2900,
                "slurm/memory.max": 9000,
                "slurm/memory.current": 1000,
            },
            100,
        ),
        (  # version 1, where the path is the host's and the container's files are at the top
            "9:cpu:/x\n4:memory:/docker/abc",
            {
                "memory/memory.limit_in_bytes": 800,
                "memory/memory.usage_in_bytes": 500,
                "memory/memory.stat": "cache 1\ntotal_inactive_file {}\n",
            },
            300 + 7,
        ),
        ("0::/free", {"free/memory.max": "max"}, 5000),
        ("4:memory:/", {"memory/memory.limit_in_bytes": 2**45}, 5000),
        ("not a line", {}, None),
    ],
)
def test_the_tightest_limit_counts(tmp_path, cgroup, files, left):
    def text(value: int | str) -> str:
        return str(value * MIB) if isinstance(value, int) else value.format(7 * MIB)

    groups = {f"sys/fs/cgroup/{name}": text(value) for name, value in files.items()}
    root = tree(tmp_path, machine(5000) | {"proc/self/cgroup": cgroup + "\n"} | groups)
    if left is None:
        left = 5000  # what is not understood limits nothing
    assert spare_memory(root) == left * MIB


def test_other_systems_do_not_tell(tmp_path):
    assert spare_memory(tmp_path) is None


def test_this_machine():
    spare = spare_memory()
    if not Path("/proc/meminfo").exists():
        assert spare is None
    else:
        assert spare is not None
        total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
        assert 0 < spare < total
