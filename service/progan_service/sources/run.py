"""A training run as a source: its newest checkpoint."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.export.trained import TrainedGenerator
from progan_service.model.networks import Generator
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import (
    CheckpointError,
    DamagedCheckpointError,
    assign_variables,
    latest_checkpoint,
    read_checkpoint,
)
from progan_service.training.run.directory import CONFIG_FILE, read_run_config, why_no_run
from progan_service.training.run.snapshot import trained_generator


def load_run(run: Path) -> TrainedGenerator:
    """Return the averaged generator of the newest checkpoint.

    Raises CheckpointError or ConfigError when the run, its configuration or its checkpoint is missing or damaged.
    """
    if not (run / CONFIG_FILE).is_file():
        raise CheckpointError(f"{run}: {why_no_run(run)}; give the directory of `progan train --run`")
    config, checkpoint, arrays = _newest(run)
    generator = Generator(config.network, name="generator_ema")
    assign_variables(checkpoint, arrays, {weight.path: weight.value for weight in generator.weights})
    return trained_generator(config, generator, int(arrays["images_shown"]))


def networks_of_run(run: Path) -> dict[str, NDArray[np.generic]]:
    """Return the weights of both networks and of the averaged generator, of the newest checkpoint, by their paths.

    Raises what `load_run` raises.
    """
    _, _, arrays = _newest(run)
    networks = ("generator/", "discriminator/", "generator_ema/")
    return {name: array for name, array in arrays.items() if name.startswith(networks)}


def _newest(run: Path) -> tuple[RunConfig, Path, dict[str, NDArray[np.generic]]]:
    """Return the configuration of a run, its newest checkpoint, and what that holds."""
    config = read_run_config(run)
    checkpoint = latest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise CheckpointError(f"{run}: no checkpoint yet; the first one comes with the first tick")
    try:
        arrays = read_checkpoint(checkpoint)
    except DamagedCheckpointError as error:
        raise CheckpointError(
            f"{error}; remove it to take the one before, or give one of {run / 'snapshots'}"
        ) from error
    if str(arrays["config_digest"]) not in config.digests:
        raise CheckpointError(f"{checkpoint}: belongs to a run with another configuration than that of {CONFIG_FILE}")
    return config, checkpoint, arrays
