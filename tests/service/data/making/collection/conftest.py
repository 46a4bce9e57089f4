"""Opens a collection and lists what is in it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from progan_service.data.making.collection.files import Collection
from progan_service.data.making.collection.opening import open_collection
from progan_service.data.making.collection.unpacking import Scratch

Opened = Callable[[Path], Collection]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """A function that opens a source for as long as the test runs."""
    with ExitStack() as stack:
        scratch = Scratch(tmp_path, tmp_path / "out", lambda stage, done, total: None)
        yield lambda source: stack.enter_context(open_collection(source, scratch))
