"""The memory that a process may use, as the kernel tells it."""

from pathlib import Path

import pytest

from progan_service.host.memory import Bound, resident_bytes, tightest_bound

MIB = 2**20


def written(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return directory


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 8 GiB of memory, 6 of them free; this process takes 200 MiB."""
    written(tmp_path / "proc" / "self", status=f"Name:\tprogan\nRssAnon:\t{200 * 1024} kB\n")
    return written(tmp_path / "proc", meminfo=f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\n")


def test_a_machine_without_limits_has_its_memory(tmp_path: Path, proc: Path) -> None:
    assert tightest_bound(tmp_path, proc) == Bound("the memory of the machine", 8 << 30, 2 << 30)


def test_a_container_of_version_2_has_its_limit_and_cached_files_do_not_count(tmp_path: Path, proc: Path) -> None:
    stat = f"anon {200 * MIB}\nfile {50 * MIB}\nshmem {10 * MIB}\n"
    written(tmp_path, memory__max=f"{1 << 30}\n", memory__current=f"{260 * MIB}\n", memory__stat=stat)
    bound = tightest_bound(tmp_path, proc)
    assert bound == Bound("the memory limit of the container", 1 << 30, 220 * MIB)
    assert bound.free_bytes == 804 * MIB


def test_a_container_of_version_1_has_its_limit_and_cached_files_do_not_count(tmp_path: Path, proc: Path) -> None:
    stat = f"cache 7\ntotal_cache {50 * MIB}\ntotal_shmem {10 * MIB}\n"
    written(
        tmp_path / "memory",
        memory__limit_in_bytes=f"{1 << 30}\n",
        memory__usage_in_bytes=f"{260 * MIB}\n",
        memory__stat=stat,
    )
    assert tightest_bound(tmp_path, proc) == Bound("the memory limit of the container", 1 << 30, 220 * MIB)


@pytest.mark.parametrize("limit", ["max\n", f"{64 << 30}\n"], ids=["none", "more than the machine"])
def test_a_container_with_a_larger_limit_has_the_memory_of_the_machine(tmp_path: Path, proc: Path, limit: str) -> None:
    written(tmp_path, memory__max=limit, memory__current="1\n", memory__stat="file 0\nshmem 0\n")
    assert tightest_bound(tmp_path, proc) == Bound("the memory of the machine", 8 << 30, 2 << 30)


def test_a_system_without_these_files_has_no_bound(tmp_path: Path) -> None:
    assert tightest_bound(tmp_path, tmp_path) is None
    assert resident_bytes(tmp_path) == 0


def test_what_this_process_takes(proc: Path) -> None:
    assert resident_bytes(proc) == 200 * MIB
    assert 10 * MIB < resident_bytes() < 100_000 * MIB
    assert Bound("", 100, 120).free_bytes == 0
