"""Prints the figures of a benchmark and stores them as JSON with a description of the machine."""

import json
import math
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from progan_service.host.cpus import available_cpus

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "build" / "bench"

Measured = TypeVar("Measured", bound=tuple)  # a named one, of numbers


@dataclass(frozen=True)
class Row:
    """One figure. Rows of equal units are compared with each other."""

    what: str
    value: float
    unit: str
    note: str = ""


def medians(rounds: Iterable[Iterable[Measured]]) -> list[Measured]:
    """Return the medians over the rounds, field by field."""
    turns = [list(turn) for turn in zip(*rounds, strict=True)]
    return [type(turn[0])(*map(statistics.median, zip(*turn, strict=True))) for turn in turns]


def publish(name: str, rows: Sequence[Row], gpu: str = "") -> None:
    """Print the figures of a benchmark and write build/bench/NAME.json. `gpu` names the one that made them."""
    print(f"{name}\n{table(rows)}\n", flush=True)
    result = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine() | ({"gpu": gpu} if gpu else {}),
        "rows": [asdict(row) for row in rows],
    }
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def table(rows: Sequence[Row]) -> str:
    cells = [(row.what, digits(row.value), row.unit, row.note) for row in rows]
    what, value, unit, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
    return "\n".join(f"  {a:{what}}  {b:>{value}} {c:{unit}}  {d}".rstrip() for a, b, c, d in cells)


def digits(value: float) -> str:
    """Format a number with three significant digits, or all digits before the point."""
    before = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, 2 - before)}f}"


def machine() -> dict[str, Any]:
    """Describe what the figures depend on, without the name of the machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    system, kernel = platform.freedesktop_os_release()["PRETTY_NAME"], platform.release().split("-")[0]
    return {
        "processor": processor(),
        "cpus": available_cpus(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{system}, {platform.system()} {kernel}",
        "versions": {
            "Python": platform.python_version(),
            "TensorFlow": metadata.version(metadata.packages_distributions()["tensorflow"][0]),  # comes in several
            "grpcio": metadata.version("grpcio"),
            "numpy": metadata.version("numpy"),
        },
    }


def processor() -> str:
    found = re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def commit() -> str:
    """Return the commit of the sources, with "-dirty" if they have changed since, or "" without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
