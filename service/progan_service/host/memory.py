"""The memory that this process may use: that of its container, or of the machine."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from progan_service.host.cpus import CGROUPS

PROC = Path("/proc")


@dataclass(frozen=True)
class Bound:
    """A limit on memory, and how much of it is used."""

    name: str
    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


def tightest_bound(cgroups: Path = CGROUPS, proc: Path = PROC) -> Bound | None:
    """Return the limit that leaves the least memory free; None where none can be read."""
    bounds = []
    for read in (_container, _machine):
        with suppress(OSError, KeyError, ValueError):  # another system, or no limit
            bounds.append(read(cgroups, proc))
    return min(bounds, key=lambda bound: bound.free_bytes, default=None)


def resident_bytes(proc: Path = PROC) -> int:
    """Return the memory of this process without mapped files; 0 where it cannot be read."""
    with suppress(OSError, KeyError):
        return _numbers(proc / "self" / "status")["RssAnon"]
    return 0


def _container(cgroups: Path, _: Path) -> Bound:
    """Return the limit of the control group. Cached files do not count: the kernel drops them when memory is needed."""
    if (cgroups / "memory.max").is_file():  # version 2
        limit, used = ((cgroups / f"memory.{name}").read_text() for name in ("max", "current"))
        statistics = _numbers(cgroups / "memory.stat")
        cached = statistics["file"] - statistics["shmem"]
    else:
        group = cgroups / "memory"
        limit, used = ((group / f"memory.{name}_in_bytes").read_text() for name in ("limit", "usage"))
        statistics = _numbers(group / "memory.stat")
        cached = statistics["total_cache"] - statistics.get("total_shmem", 0)
    return Bound("the memory limit of the container", int(limit), int(used) - cached)


def _machine(_: Path, proc: Path) -> Bound:
    memory = _numbers(proc / "meminfo")
    return Bound("the memory of the machine", memory["MemTotal"], memory["MemTotal"] - memory["MemAvailable"])


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a file of lines "name number" or "name: number kB", in bytes."""
    numbers = {}
    for line in path.read_text().splitlines():
        name, *rest = line.split()
        if rest and rest[0].isdecimal():
            numbers[name.rstrip(":")] = int(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return numbers
