"""`progan presets`."""

import shutil
import textwrap
from typing import Any

from progan_service import exit_codes
from progan_service.settings.manual import add_path
from progan_service.training.presets import load_preset, preset_names


def add_presets(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "presets",
        help="list the presets of train, or print one",
        description="List the presets of `progan train`, or print one with all its settings, including the defaults. "
        "Change the JSON and give it to `progan train --preset FILE.json`.",
    )
    add_path(command, "preset", type=str, nargs="?", metavar="PRESET", help="preset to print: a name or a FILE.json")
    command.set_defaults(run=lambda given: presets(preset=given.preset))


def presets(*, preset: str | None) -> int:
    """Print all presets with their descriptions, or all settings of one."""
    if preset:
        print(load_preset(preset).to_json(), end="")
        return exit_codes.DONE
    width = min(shutil.get_terminal_size().columns, 100)
    for name in preset_names():
        about = textwrap.fill(load_preset(name).about, width, initial_indent="    ", subsequent_indent="    ")
        print(f"{name}\n{about}")
    return exit_codes.DONE
