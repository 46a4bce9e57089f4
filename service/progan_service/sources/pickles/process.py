"""The process that reads one foreign file. It has no more memory, time and disk than an honest file of that size needs.

    python -m MODULE IN OUT [CPU_SECONDS]

writes the generator of the file IN as the .npz OUT, where MODULE reads files of its kind. It ends with REFUSED, and one
sentence on stdout, when a rule is broken; it is killed when it takes more of the processor than it may.
"""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator

REFUSED = 3  # exit code
NOT_WRITTEN = 4  # exit code, with the error's number on stdout
CPU_SECONDS = 60

MAX_FILE_BYTES = 2**30  # a file of the paper's largest networks takes 277 MB


def run(read: Callable[[bytes], StoredGenerator], source: str, result: str, cpu_seconds: str = str(CPU_SECONDS)) -> int:
    """Read SOURCE, write RESULT and return the exit code."""
    try:
        read(_file(Path(source), int(cpu_seconds))).save(Path(result))
    except OSError as error:
        if error.errno == errno.EFBIG:  # more than a generator of such a file takes
            raise
        print(error.errno)
        return NOT_WRITTEN
    except RefusedPickleError as error:
        print(error)
        return REFUSED
    except MemoryError:
        print("takes more memory to read than a file of its size should")
        return REFUSED
    return 0


def _file(path: Path, cpu_seconds: int) -> bytes:
    """Limit this process to what a file of this size needs, and return the content of the file."""
    try:
        if not path.is_file():
            raise RefusedPickleError("is no file" if path.exists() else "no such file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RefusedPickleError(f"takes {size} bytes, more than {MAX_FILE_BYTES}")
        _limit(size, cpu_seconds)
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise RefusedPickleError(f"cannot be read ({error.strerror})") from error


def _limit(file_bytes: int, cpu_seconds: int) -> None:
    """Limit memory to six copies of the file (protocol 2 takes five) and disk to one, without a core dump."""
    if sys.platform != "linux":
        return
    import resource

    for kind, limit in (
        (resource.RLIMIT_AS, 2**29 + 6 * file_bytes),
        (resource.RLIMIT_FSIZE, 2**20 + file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
