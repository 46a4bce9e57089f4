"""Making what was written outlast a power cut."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a directory, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
