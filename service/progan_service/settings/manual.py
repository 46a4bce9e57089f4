"""Flags and help page of a command, made from the declarations of its settings."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shtab

from progan_service.settings.field import Setting, Settings, settings_of
from progan_service.settings.kind import path


class HelpPage(argparse.RawDescriptionHelpFormatter):
    """Help with the line breaks of its text, at most 100 columns wide."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns - 2, 100))


def add_path(container: argparse._ActionsContainer, *names: str, metavar: str, **options: Any) -> None:
    """Add an argument for a path. Shells complete it with directories if metavar begins with DIR, else with files."""
    action = container.add_argument(*names, metavar=metavar, **{"type": path} | options)
    action.complete = shtab.DIRECTORY if metavar.startswith("DIR") else shtab.FILE  # type: ignore[attr-defined]


def add_settings(command: argparse.ArgumentParser, *configs: type[Settings]) -> dict[str, argparse._ArgumentGroup]:
    """Add a flag for each setting. Return the groups of the help page by heading."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for one in (one for config in configs for one in settings_of(config)):
        if one.group not in groups:
            groups[one.group] = command.add_argument_group(one.group)
        _add_flag(groups[one.group], one)
    return groups


def given_settings(arguments: argparse.Namespace, *configs: type[Settings]) -> dict[str, Any]:
    """Return the values of the flags that were given, by the names of their settings."""
    names = [one.name for config in configs for one in settings_of(config)]
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _add_flag(group: argparse._ArgumentGroup, one: Setting) -> None:
    text = f"{one.help} (default: {one.default_help})" if one.default_help else one.help
    if one.hint is bool:
        group.add_argument(one.flag, help=text, action=argparse.BooleanOptionalAction)
        return
    add = add_path if one.hint in (Path | None, Path | str) else argparse._ActionsContainer.add_argument
    add(group, one.flag, help=text, metavar=one.metavar, type=_parser(one))


def _parser(one: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return one.kind.parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {one.kind.rule}; got {text!r}") from None

    return parse
