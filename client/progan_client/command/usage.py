"""Say what is wrong with a command line, in the words of whoever typed it."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from progan_client.errors import ArgumentError, InvalidArgumentError, ProganError


class UsageError(Exception):
    """Options that do not fit together. The message is the whole sentence."""


class Parser(argparse.ArgumentParser):
    """A parser that refuses an unknown option first, with the usage of its own command and the nearest option.

    argparse would report what is missing because of it, or show the usage of the whole program.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        given = sys.argv[1:] if args is None else list(args)
        for name in self._own_options(given):
            if not any(option.startswith(name) for option in self._option_string_actions):
                self.error(f"there is no option {name}{self._nearest(name)}")
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _own_options(self, given: Sequence[str]) -> list[str]:
        """Return the options that stand before the name of a command, without values."""
        kinds = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        ends = {"--"}.union(*(kind.choices for kind in kinds))
        names = [text.partition("=")[0] for text in takewhile(lambda text: text not in ends, given)]
        return [name for name in names if name.startswith("--") and " " not in name]

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, list(self._option_string_actions), 1)
        return f"; did you mean {near[0]}?" if near else ""


def only_one(**options: object) -> None:
    """Raise UsageError if more than one of these options is given, that is, not None."""
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"give only one of {' and '.join(given)}")


@contextmanager
def input_of(option: str, path: Path | str) -> Iterator[None]:
    """Name the option, too, in an OSError about its file."""
    try:
        yield
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise OSError(error.errno, reason, f"{option} {path}") from error


@contextmanager
def photos_named(paths: Sequence[Path]) -> Iterator[None]:
    """Name the photo that a call refuses instead of its place in the call."""
    try:
        yield
    except (ArgumentError, InvalidArgumentError) as error:
        place = re.match(r"pictures\[(\d+)\]", str(error))
        if place is None:
            raise
        raise ProganError(f"PHOTO {paths[int(place[1])]}{str(error)[place.end() :]}") from error
