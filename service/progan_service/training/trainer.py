"""The training loop. A run directory contains:

    config.json      the configuration of the run
    checkpoints/     images-NNNNNNNNN.npz, the newest two; none of a tick in which nearly all steps were skipped
    snapshots/       images-NNNNNNNNN.safetensors, the averaged generator every `snapshot_ticks` ticks; all are kept
    grids/           reals.png, and images of the averaged generator at every tick, always of the same latents
    tensorboard/     losses, schedule, speed, health, metrics

`images_shown` is the only measure of progress: image order, mirroring, latents and the schedule are functions of it and
the seed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError
from progan_service.training.config import RunConfig
from progan_service.training.devices import agreed
from progan_service.training.dry_run import try_stages
from progan_service.training.feed import Feed
from progan_service.training.run.checkpoint import checkpoints, images_shown_at_checkpoint
from progan_service.training.run.directory import marker_of, require_present
from progan_service.training.run.log import OnTick, RunLog
from progan_service.training.run.ruin import RuinedRunError, SkippedSteps
from progan_service.training.run.snapshot import save_snapshot
from progan_service.training.schedule import GrowthSchedule, of_resolution
from progan_service.training.state import TrainingState
from progan_service.training.workers import WorkerLostError


def train(
    run: Path,
    config: RunConfig,
    dataset: Dataset,
    *,
    report: Callable[[str], None],
    progress: Callable[[int, int], None],
    stopping: Callable[[], bool],
    initial: Mapping[str, NDArray[np.generic]] | None = None,
    auto_batch: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    chief: bool = True,
    on_tick: OnTick | None = None,
) -> bool:
    """Train to `total_kimg` from the newest whole checkpoint, if there is one. Return True once the end is reached.

    report       takes one line at a time
    progress     takes images shown and total images after every step
    stopping     polled before each trial of a stage and at every step; once it returns True on any worker, that step is
                 finished, a checkpoint saved and False returned
    initial      weights to begin with, by the path of the weight; they count only if there is no checkpoint
    auto_batch   compute a batch that does not fit into memory in parts
    strategy     the devices and workers to train on; None trains on one device
    chief        whether this worker writes the run directory; only one does
    on_tick      is told of each tick, by the chief
    Raises CheckpointError if all checkpoints are damaged or the newest belongs to another run, OutOfMemoryError if a
    stage does not fit into memory, ConfigError if a batch cannot be divided among the devices, WorkerLostError if the
    workers found different checkpoints, and RuinedRunError if nearly all steps are skipped.
    """
    schedule = GrowthSchedule(config.training, config.network.resolution)
    total_images = round(config.training.total_kimg * 1000)
    state = TrainingState.fresh(config, strategy)
    if checkpoint := state.restore_newest(run / "checkpoints", report):
        report(f"going on from {checkpoint}")
    else:
        report(f"training on {dataset.count} images of {dataset.directory}")
        if initial:
            _begin_with(state, initial, config.init.source, report)
    if state.images_shown >= total_images:
        shown, total = state.images_shown / 1000, total_images / 1000
        report(
            f"nothing to do: {shown:g} kimg were shown, --total-kimg is {total:g}; with a larger one the run goes on"
        )
        return True
    _note_early_end(schedule, total_images, report)
    if not agreed(state.images_shown, state.strategy):
        raise WorkerLostError("the workers found different checkpoints; they must share one run directory")
    feed = Feed(dataset, config, state.strategy)
    stages = schedule.stages(state.images_shown, total_images)
    steps = try_stages(state, config, stages, feed, auto_batch=auto_batch, report=report, stopping=stopping)
    log = RunLog(run, config, dataset, report, state.images_shown, on_tick) if chief else None
    marker = marker_of(run)
    skipped = SkippedSteps()
    ticked_at, stop = state.images_shown, stopping()

    while state.images_shown < total_images and not stop:
        phase = schedule.at(state.images_shown)
        state.enter(phase)
        batch = feed.take(state.images_shown)
        losses = steps[state.stage](batch, state.images_shown, phase.alpha, phase.learning_rate, stopping())
        skipped.add(losses, state.images_shown)
        state.images_shown += phase.batch_size
        stop = bool(losses.pop("stop") > 0)
        progress(state.images_shown, total_images)
        if log is not None:
            log.add(losses)
        tick_images = round(of_resolution(config.training.tick_kimg, phase.resolution) * 1000)
        if not _due(tick_images, ticked_at, state.images_shown, total_images):
            continue
        if log is not None:
            require_present(marker, run)
            log.tick(state, phase, feed.waited_s)
        snapshot_images = tick_images * config.training.snapshot_ticks
        snapshot_due = snapshot_images and _due(snapshot_images, ticked_at, state.images_shown, total_images)
        ticked_at = state.images_shown
        if skipped.tick():
            if skipped.ruined or ticked_at >= total_images:
                raise _ruined(run, skipped)
            continue
        if log is not None:
            if snapshot_due:
                save_snapshot(run / "snapshots", config, state.generator_ema, state.images_shown)
            state.save(run / "checkpoints")

    feed.close()
    if log is not None:
        log.close()
        if skipped.losing:
            report(f"warning: not saved, for nearly all steps since {skipped.since} images were skipped")
        elif ticked_at != state.images_shown:
            require_present(marker, run)
            state.save(run / "checkpoints")
    return state.images_shown >= total_images


def dry_run(
    config: RunConfig,
    dataset: Dataset,
    *,
    report: Callable[[str], None],
    stopping: Callable[[], bool],
    auto_batch: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Try every stage of a run and report its memory and time. `stopping` is polled before each.

    Raises OutOfMemoryError and ConfigError as `train` does.
    """
    schedule = GrowthSchedule(config.training, config.network.resolution)
    state = TrainingState.fresh(config, strategy)
    feed = Feed(dataset, config, state.strategy)
    total_images = round(config.training.total_kimg * 1000)
    _note_early_end(schedule, total_images, report)
    stages = schedule.stages(0, total_images)
    try_stages(state, config, stages, feed, auto_batch=auto_batch, report=report, stopping=stopping)
    feed.close()


def _begin_with(
    state: TrainingState, initial: Mapping[str, NDArray[np.generic]], source: str, report: Callable[[str], None]
) -> None:
    """Give the networks the weights that they begin with, and report what fits."""
    fitting, random = state.begin_with(initial)
    if not any(name.startswith(f"{state.generator.name}/") for name in fitting):
        raise ConfigError(f"{source}: no array of its generator fits; its network has other feature maps or latents")
    for network in (state.generator, state.discriminator):
        of_network = f"{network.name}/"
        count = sum(name.startswith(of_network) for name in fitting)
        report(f"the {network.name} begins with {count} of {len(network.weights)} arrays of {source}")
        if missing := [name.removeprefix(of_network) for name in random if name.startswith(of_network)]:
            report(f"  random at first: {', '.join(missing) if count else 'all'}")


def _ruined(run: Path, skipped: SkippedSteps) -> RuinedRunError:
    since = skipped.since or 0
    before = [one for one in checkpoints(run / "checkpoints") if images_shown_at_checkpoint(one) <= since]
    kept = f"{before[0]} is from before that; " if before else ""
    return RuinedRunError(
        f"{run}: the run is ruined: since {since} images nearly all steps were skipped, for their gradients were not "
        f"finite; {kept}begin a new run with smaller --learning-rates"
    )


def _due(interval: int, before: int, images_shown: int, total_images: int) -> bool:
    """Return whether a multiple of `interval` was passed since `before`, or the run has reached its end."""
    return images_shown // interval > before // interval or images_shown >= total_images


def _note_early_end(schedule: GrowthSchedule, total_images: int, report: Callable[[str], None]) -> None:
    """Report a note if the run ends before its final resolution has faded in."""
    end = schedule.at(total_images)
    if end.fading or end.resolution < schedule.resolution:
        size, full_size = (f"{side}x{side}" for side in (end.resolution, schedule.resolution))
        report(
            f"note: the run ends after {total_images / 1000:g} kimg at {size}, alpha {end.alpha:.2f}; "
            f"{full_size} is fully faded in after {schedule.full_kimg:g} kimg"
        )
