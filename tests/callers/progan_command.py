"""The `progan` command: how it refuses, its help, and what it would train."""

import argparse
from pathlib import Path

from progan_service.commands.parser import parser
from progan_service.data.dataset import Dataset
from progan_service.model.config import NetworkConfig
from progan_service.settings.manual import given_settings
from progan_service.training.config import RunConfig, TrainingConfig
from progan_service.training.run.configuration import Given, config_of


def refusal(sentence: str) -> tuple[int, str, str]:
    """Return how a command ends with bad configuration or data: running again will not help."""
    return 78, "", f"progan: {sentence}\n"


def help_of(command: str) -> str:
    """Return what `progan COMMAND --help` prints."""
    [subparsers] = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    text: str = subparsers.choices[command].format_help()
    return text


def configured(data: Path, *options: object) -> RunConfig:
    """Return what `progan train` with these options would train on the dataset."""
    given = parser().parse_args(["train", "--data", str(data), "--run", "r", *map(str, options)])
    settings = given_settings(given, NetworkConfig, TrainingConfig)
    what = Given(given.preset, settings, given.labels, given.auto_batch, given.deterministic)
    return config_of(Path("r"), None, Dataset.open(data), what)
