"""The dry run: a trial of every coming stage before the first step, which measures its memory and time."""

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import tensorflow as tf

from progan_service.errors import BadInputError, ConfigError
from progan_service.training.config import RunConfig
from progan_service.training.feed import Feed
from progan_service.training.stage import Phase, Stage
from progan_service.training.state import TrainingState
from progan_service.training.step import Step

TIMED_STEPS = 2
HEADER = f"{'stage':<16}{'batch':>6}{'parts':>7}{'memory':>11}{'images/s':>10}{'time':>14}"


class OutOfMemoryError(BadInputError):
    """A stage does not fit into memory. The message names the stage and the remedy."""


@dataclass(frozen=True)
class Trial:
    """The measured cost of a stage.

    images         real images that the stage will show
    memory_bytes   peak memory of the fullest GPU, or of this process without GPUs
    """

    step: Step
    images: int
    memory_bytes: int
    images_per_s: float

    @property
    def expected_s(self) -> float:
        """The expected duration of the stage in seconds."""
        return self.images / self.images_per_s

    def line(self) -> str:
        """Return the row of the table."""
        duration = timedelta(seconds=round(self.expected_s))
        return (
            f"{self.step.stage!s:<16}{self.step.batch_size:>6}{self.step.parts:>7}{self.memory_bytes / 2**30:>7.2f} GiB"
            f"{self.images_per_s:>10.1f}{duration!s:>14}"
        )


def try_stages(
    state: TrainingState,
    config: RunConfig,
    stages: list[tuple[Phase, int]],
    feed: Feed,
    *,
    auto_batch: bool,
    report: Callable[[str], None],
    stopping: Callable[[], bool],
) -> dict[Stage, Step]:
    """Take a few steps of each stage and report a table. Return the compiled steps; the state is unchanged.

    stages       as GrowthSchedule.stages returns them
    auto_batch   compute a batch that does not fit into memory in as many parts as needed
    stopping     polled before each stage; once it returns True, the remaining stages are left out
    Raises OutOfMemoryError if a stage does not fit into memory, and ConfigError if a batch cannot be divided among the
    devices.
    """
    for phase, _ in stages:
        _check_shares(phase, config.training.mbstd_group_size, state.strategy.num_replicas_in_sync)
    before = state.arrays()
    report(HEADER)
    trials = []
    for phase, images in stages:
        if stopping():
            break
        trials.append(_try_stage(state, config, phase, images, feed, auto_batch))
        report(trials[-1].line())
    state.assign(before, Path("dry run"))
    if len(trials) < len(stages):
        report(f"stopped after {len(trials)} of {len(stages)} stages")
    else:
        report(f"{'expected in all':<16}{timedelta(seconds=round(sum(trial.expected_s for trial in trials)))!s:>48}")
    return {trial.step.stage: trial.step for trial in trials}


def _try_stage(
    state: TrainingState, config: RunConfig, phase: Phase, images: int, feed: Feed, auto_batch: bool
) -> Trial:
    for parts in possible_parts(
        phase.batch_size, config.training.mbstd_group_size, state.strategy.num_replicas_in_sync
    ):
        try:
            return _measure(Step(state, config, phase, parts), phase, images, feed)
        except tf.errors.ResourceExhaustedError:
            if not auto_batch:
                break
    size = f"{phase.resolution}x{phase.resolution}"
    advice = "give it a smaller --batch-sizes" if auto_batch else "give it a smaller --batch-sizes, or --auto-batch"
    raise OutOfMemoryError(f"{size} images do not fit into memory, {phase.batch_size} a step: {advice}")


def possible_parts(batch_size: int, group_size: int, replicas: int) -> list[int]:
    """Return the numbers of parts that a replica can divide its share of a batch into: 1, 2, 4, ... of whole groups."""
    pieces = batch_size // min(group_size, batch_size)
    return [2**k for k in range(batch_size.bit_length()) if pieces % (replicas * 2**k) == 0]


def _check_shares(phase: Phase, group_size: int, replicas: int) -> None:
    if replicas > 1 and phase.batch_size % (replicas * group_size):
        raise ConfigError(
            f"--batch-sizes at {phase.resolution} is {phase.batch_size}: {replicas} devices need a multiple of "
            f"{replicas * group_size}, whole groups of {group_size} (--mbstd-group-size) each"
        )


def _measure(step: Step, phase: Phase, images: int, feed: Feed) -> Trial:
    batch = feed.batch(0, phase)
    _reset_peak_memory()

    def take() -> float:
        started = time.monotonic()
        losses = step(batch, 0, phase.alpha, phase.learning_rate)
        float(losses["G"])
        return time.monotonic() - started

    take()
    fastest = min(take() for _ in range(TIMED_STEPS))
    return Trial(step, images, _peak_memory(), phase.batch_size / fastest)


def _reset_peak_memory() -> None:
    for gpu in tf.config.list_logical_devices("GPU"):
        tf.config.experimental.reset_memory_stats(gpu.name)
    with suppress(OSError):  # where this fails, the peak is that of the whole process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return max(int(tf.config.experimental.get_memory_info(gpu.name)["peak"]) for gpu in gpus)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
