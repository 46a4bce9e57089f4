"""The parser of the command line."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any


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
