"""What long work says, and what is shown of names that are no text."""

from collections.abc import Iterator

import pytest

from progan_service.commands.terminal import ended, progress_bars
from progan_service.errors import ConfigError


def _clock(*seconds: float) -> Iterator[float]:
    yield from seconds


def test_off_a_terminal_a_line_is_printed_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    times = _clock(0.0, 9.9, 10.0, 10.5, 19.0, 20.4, 20.5, 20.6)
    with progress_bars(clock=lambda: next(times)) as progress:
        progress("Listing", 10000, 0)
        progress("Listing", 20000, 0)
        progress("Checking", 1, 25000)
        progress("Checking", 2, 25000)
        progress("Checking", 3, 25000)
    assert capsys.readouterr().err == "Listing: 20000\nChecking: 3 of 25000\n"


def test_bars_that_vanish_leave_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars(transient=True, clock=lambda: 0.0) as progress:
        progress("Reals", 1, 2)
    assert capsys.readouterr().err == ""


def test_an_error_shows_names_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ConfigError("\x1b[2J\udcff.toml: is not TOML\n  Ä: \x07")

    assert ended(fail) == 78
    assert capsys.readouterr().err == "progan: \\x1b[2J\\xff.toml: is not TOML\n  Ä: \\x07\n"
