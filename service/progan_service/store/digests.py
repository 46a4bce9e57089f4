"""SHA-256 digests of files, and of sets of files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def digest_of(hashes: Mapping[str, str]) -> str:
    """Return one digest for several files: SHA-256, in hexadecimal, of the lines "name hash", sorted by name."""
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
