"""A file of tokens."""

from pathlib import Path

import pytest

ALICE, BOB = "alices-token-0123456789", "bobs-token-0123456789"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The tokens of alice and bob."""
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\nalice {ALICE}\n\nbob   {BOB}\n")
    path.chmod(0o600)
    return path
