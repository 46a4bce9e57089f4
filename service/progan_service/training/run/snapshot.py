"""Snapshots: the averaged generator at a tick, each in a weights file. They are never removed."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import save_weights
from progan_service.model.networks import Generator
from progan_service.training.config import RunConfig
from progan_service.training.schedule import GrowthSchedule

_NAME = re.compile(r"images-(\d{9,})\.safetensors", re.ASCII)


def snapshots(directory: Path) -> dict[int, Path]:
    """Return the snapshots of a directory by the number of images shown. Files of other names are none."""
    found = ((_NAME.fullmatch(file.name), file) for file in directory.glob("images-*.safetensors"))
    return {int(match[1]): file for match, file in found if match}


def trained_generator(config: RunConfig, generator: Generator, images_shown: int) -> TrainedGenerator:
    """Return the averaged generator of a run, grown as far as it is after that many real images."""
    phase = GrowthSchedule(config.training, config.network.resolution).at(images_shown)
    provenance = _provenance(config, images_shown)
    names, kind = config.dataset.label_names, config.dataset.label_kind
    return TrainedGenerator(generator, phase.resolution, phase.alpha, names, provenance, label_kind=kind)


def _provenance(config: RunConfig, images_shown: int) -> dict[str, Any]:
    """Return where the generator comes from; the licence of the images is its "license"."""
    dataset = asdict(config.dataset)
    license_text = dataset.pop("license")
    return {
        "source": "progan train",
        "images_shown": images_shown,
        **({"license": license_text} if license_text else {}),
        "dataset": dataset,
        "network": asdict(config.network),
        "training": asdict(config.training),
        **({"init": asdict(config.init)} if config.init.digest else {}),
    }


def save_snapshot(directory: Path, config: RunConfig, generator: Generator, images_shown: int) -> None:
    """Write `images-NNNNNNNNN.safetensors`, whole or not at all. Raises FileError."""
    save_weights(
        trained_generator(config, generator, images_shown), directory / f"images-{images_shown:09d}.safetensors"
    )
