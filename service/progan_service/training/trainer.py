"""The training loop. A run directory holds

    config.json      the configuration of the run
    checkpoints/     images-NNNNNNNNN.npz, the newest two
    grids/           reals.png and, every tick, images of the same latents by the averaged generator
    tensorboard/     losses, schedule, speed

`images_shown` is the only progress: image order, mirroring, latents and the schedule are functions of it and the seed.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.config import RunConfig, TrainingConfig
from progan_service.data.dataset import Dataset
from progan_service.data.order import image_indices, mirrored
from progan_service.latents import latents_from_seeds, seed_range
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8
from progan_service.training.checkpoint import latest_checkpoint
from progan_service.training.run_log import RunLog, save_grid
from progan_service.training.schedule import GrowthSchedule, Phase
from progan_service.training.state import TrainingState
from progan_service.training.step import compile_step

GRID_IMAGES = 32


def train(
    run: Path,
    config: RunConfig,
    dataset: Dataset,
    *,
    report: Callable[[str], None],
    progress: Callable[[int, int], None],
    stopping: Callable[[], bool],
) -> bool:
    """Train until `total_kimg`, going on from the newest checkpoint of the run; True when it got there.

    report      takes one status line a tick
    progress    takes images shown and their total after every step
    stopping    asked after every step; once it says True, everything is saved and False returned
    Raises CheckpointError when the run's newest checkpoint is damaged or belongs to another network.
    """
    schedule = GrowthSchedule(config.training, config.network.resolution)
    total_images, tick_images = round(config.training.total_kimg * 1000), round(config.training.tick_kimg * 1000)
    state = TrainingState.fresh(config)
    if checkpoint := latest_checkpoint(run / "checkpoints"):
        state.restore(checkpoint)
        report(f"going on from {checkpoint}")
    else:
        report(f"training on {dataset.count} images of {dataset.directory}")
    end = schedule.at(total_images)
    if end.fading or end.resolution < config.network.resolution:
        report(
            f"note: {config.training.total_kimg:g} kimg end at {end.resolution}x{end.resolution}, alpha {end.alpha:.2f}"
        )
    log = RunLog(run, total_images, config.network.resolution, state.images_shown)
    save_grid(run / "grids" / "reals.png", _some_reals(dataset, config.network.resolution), config.network.resolution)
    compiled_stage, saved_at = None, state.images_shown

    while state.images_shown < total_images and not stopping():
        phase = schedule.at(state.images_shown)
        state.enter(phase)
        if state.stage != compiled_stage:
            compiled_stage, step = state.stage, compile_step(state, config, phase)
        reals = load_batch(dataset, config.training, state.images_shown, phase)
        losses = step(tf.constant(reals), tf.constant(state.images_shown, tf.int64), tf.constant(phase.alpha))
        state.images_shown += phase.batch_size
        log.add(losses)
        progress(state.images_shown, total_images)
        if state.images_shown // tick_images > saved_at // tick_images or state.images_shown >= total_images:
            report(log.tick(state.images_shown, phase, sample(state.generator_ema, phase)))
            state.save(run / "checkpoints")
            saved_at = state.images_shown

    if saved_at != state.images_shown:
        state.save(run / "checkpoints")
    return state.images_shown >= total_images


def load_batch(dataset: Dataset, config: TrainingConfig, images_shown: int, phase: Phase) -> NDArray[np.uint8]:
    """The real images [N, R, R, C] of the step that follows `images_shown`."""
    indices = image_indices(config.seed, images_shown, phase.batch_size, dataset.count)
    images = dataset.images(indices, phase.resolution)
    if config.mirror:
        flip = mirrored(config.seed, images_shown, phase.batch_size)
        images = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
    return images


def sample(generator: Generator, phase: Phase) -> NDArray[np.uint8]:
    """Images [GRID_IMAGES, R, R, C] of the seeds 0, 1, ... at the point of growth that `phase` is."""
    latents = tf.constant(latents_from_seeds(seed_range(0, GRID_IMAGES), generator.config.latent_size))
    alpha = tf.constant(phase.alpha) if phase.fading else None
    images: NDArray[np.uint8] = to_uint8(generator(latents, resolution=phase.resolution, alpha=alpha)).numpy()
    return images


def _some_reals(dataset: Dataset, resolution: int) -> NDArray[np.uint8]:
    return dataset.images(image_indices(0, 0, min(GRID_IMAGES, dataset.count), dataset.count), resolution)
