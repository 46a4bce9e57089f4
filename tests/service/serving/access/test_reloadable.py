"""Values that are read again from files that change."""

import logging
import time
from pathlib import Path

import pytest

from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import read_tokens

ALICE, NEW_BOB = "alices-token-0123456789", "bobs-new-token-0123456789"


def test_a_change_is_used_and_a_broken_file_is_logged_once_while_the_old_value_stays(
    tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reloadable = Reloadable("tokens", lambda: read_tokens(tokens))
    reloadable.reload()
    assert caplog.messages == []

    tokens.write_text(f"carol {NEW_BOB}\n")
    reloadable.reload()
    assert reloadable.value.caller([f"Bearer {NEW_BOB}"]).name == "carol"
    assert caplog.messages == ["tokens were reloaded"]

    read_at = reloadable.read_at
    tokens.write_text("carol\n")
    reloadable.reload()
    assert reloadable.read_at == read_at
    assert len(caplog.messages) == 1  # it may be half-written
    for _ in range(3):
        reloadable.reload()
    assert reloadable.value.caller([f"Bearer {NEW_BOB}"]).name == "carol"
    assert caplog.messages[1:] == [
        f"tokens were not reloaded: {tokens}, line 1: must be NAME TOKEN; has one word; the old ones stay in use",
    ]

    tokens.write_text(f"dave {ALICE}\n")
    reloadable.reload()
    assert reloadable.value.caller([f"Bearer {ALICE}"]).name == "dave"
    assert read_at < reloadable.read_at <= time.time()
