"""Read a foreign file in a process of its own, and run nothing that it contains."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from progan_service.host.faults import named
from progan_service.host.files import temporary_directory, temporary_files
from progan_service.sources.pickles import process
from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator

WALL_CLOCK_SECONDS = 300
CPU_SECONDS = process.CPU_SECONDS


def read_apart(module: str, path: Path) -> StoredGenerator:
    """Return the generator that `python -m module` finds in a file.

    Raises RefusedPickleError with the reason when it finds none, FileError when the file cannot be opened.
    """
    if path.is_file():
        with named(path):
            path.open("rb").close()
    with temporary_directory() as directory:
        result = directory / "generator.npz"
        command = [sys.executable, "-I", "-m", module, str(path.absolute()), str(result)]
        try:
            reader = subprocess.run(
                [*command, str(CPU_SECONDS)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=WALL_CLOCK_SECONDS,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # each thread takes memory
            )
        except subprocess.TimeoutExpired:
            raise RefusedPickleError(f"takes longer than {WALL_CLOCK_SECONDS} seconds to read") from None
        if reader.returncode == process.NOT_WRITTEN:
            with temporary_files():
                raise OSError(int(reader.stdout), "not written")
        if reader.returncode != 0:
            raise RefusedPickleError(_why(reader))
        return StoredGenerator.load(result)


def _why(reader: "subprocess.CompletedProcess[bytes]") -> str:
    if reader.returncode == process.REFUSED:
        return reader.stdout.decode(errors="replace").strip()
    if reader.returncode == -signal.SIGXCPU:
        return f"takes more than {CPU_SECONDS} seconds of computing to read"
    if reader.returncode < 0:
        return f"broke the process that read it ({signal.strsignal(-reader.returncode)})"
    last = reader.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"broke the process that read it ({last})"
