"""The log of a run: a status line, TensorBoard scalars and an image grid at every tick."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.dataset import Dataset
from progan_service.evaluation.measure import real_batches
from progan_service.evaluation.ms_ssim import PairSimilarity
from progan_service.evaluation.swd import PATCH_SIZE
from progan_service.host.faults import named
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.pictures.grid import image_grid, readable_scale, save_picture
from progan_service.training.config import RunConfig
from progan_service.training.run.collapse_guard import CollapseGuard
from progan_service.training.run.metrics import RunMetrics
from progan_service.training.run.samples import draw_samples, sample_labels
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState

GRID_IMAGES = 32
GUARD_IMAGES = 64  # images for the MS-SSIM of each tick, fakes and reals
WIDEST_IN_TENSORBOARD = 1280  # pixels
OnTick = Callable[[int, dict[str, float], Path], object]
"""Takes the images shown so far, the scalars by name, and the file of the image grid."""
IN_STATUS_LINE = ("D", "penalty", "distance", "G")


def grid_of(images: NDArray[np.uint8], resolution: int) -> Image.Image:
    """Return images [N, H, W, C] as a grid about twice as wide as high, in blocks of a size that is easy to see.

    resolution   that of the final images of the run: the grids of all its stages have one size
    """
    columns = max(1, round((2 * len(images)) ** 0.5))
    return image_grid(images, columns, readable_scale(resolution) * resolution // images.shape[1])


class RunLog:
    """Collects the losses of the steps between two ticks. At a tick it reports, writes scalars and saves samples.

    run        the run directory
    report     takes one line at a time
    on_tick    is told of each tick
    """

    def __init__(
        self,
        run: Path,
        config: RunConfig,
        dataset: Dataset,
        report: Callable[[str], None],
        images_shown: int,
        on_tick: OnTick | None = None,
    ) -> None:
        self._run, self._config, self._dataset, self._report = run, config, dataset, report
        self._on_tick = on_tick
        self._latents = latents_from_seeds(seed_range(0, GUARD_IMAGES), config.network.latents)
        self._labels = sample_labels(config, dataset, GUARD_IMAGES)
        self._losses: dict[str, list[float]] = {}
        self._tick_started = (time.monotonic(), images_shown, 0.0)
        with _written_whole(run / "tensorboard"):
            self._writer = tf.summary.create_file_writer(str(run / "tensorboard"))
        self._guard = CollapseGuard()
        self._reals_ms_ssim: dict[int, float] = {}
        self._metrics = RunMetrics(dataset, config) if config.training.metric_images else None
        reals = next(self._reals(config.network.resolution))[:GRID_IMAGES]
        self._show("reals", "reals", reals, images_shown)

    def add(self, losses: Mapping[str, tf.Tensor]) -> None:
        """Add the losses of one step, by name."""
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(float(value))

    def tick(self, state: TrainingState, phase: Phase, waited_s: float) -> None:
        """End a tick. `waited_s` is the time in seconds that all steps so far have waited for input."""
        losses = {name: float(np.mean(values)) for name, values in self._losses.items()}
        rate, waiting = self._speed(state.images_shown, waited_s)
        images = self._samples(state, phase)
        fakes, reals = _ms_ssim(images), self._ms_ssim_of_reals(phase.resolution)
        scalars = {
            **{f"loss/{name}": value for name, value in losses.items()},
            "schedule/resolution": phase.resolution,
            "schedule/alpha": phase.alpha,
            "schedule/learning_rate": phase.learning_rate,
            "speed/images_per_s": rate,
            "speed/input_wait_share": waiting,
            "health/ms_ssim_fakes": fakes,
            "health/ms_ssim_reals": reals,
            **_weight_rms(state),
        }
        self._report(self._status_line(state.images_shown, phase, losses, rate, waiting))
        for warning in self._guard.warnings(state.stage, losses, fakes, reals):
            self._report(f"warning: {warning}")
        if self._metrics and phase.resolution >= PATCH_SIZE:
            evaluation = self._metrics.evaluate(state.generator_ema, phase)
            self._report(evaluation.table())
            scalars |= {f"metrics/{name}": value for name, value in evaluation.fakes.columns().items()}
            scalars |= {f"metrics_reals2/{name}": value for name, value in evaluation.reals.columns().items()}
        self._write(state.images_shown, scalars)
        grid = self._show("fakes", f"fakes-{state.images_shown:09d}", images[:GRID_IMAGES], state.images_shown)
        if self._on_tick:
            self._tell(self._on_tick, state.images_shown, scalars, grid)
        self._losses.clear()
        self._tick_started = (time.monotonic(), state.images_shown, waited_s)

    def close(self) -> None:
        """Close the TensorBoard file and remove temporary files."""
        self._writer.close()
        if self._metrics:
            self._metrics.close()

    def _speed(self, images_shown: int, waited_s: float) -> tuple[float, float]:
        """Return images/s since the last tick, and the share of that time spent waiting for input."""
        started, images_before, waited_before = self._tick_started
        elapsed = time.monotonic() - started
        return (images_shown - images_before) / elapsed, (waited_s - waited_before) / elapsed

    def _samples(self, state: TrainingState, phase: Phase) -> NDArray[np.uint8]:
        return np.concatenate(list(draw_samples(state.generator_ema, self._latents, self._labels, phase)))

    def _reals(self, resolution: int) -> Iterator[NDArray[np.uint8]]:
        training = self._config.training
        return real_batches(self._dataset, resolution, seed=training.seed, mirror=training.mirror)

    def _ms_ssim_of_reals(self, resolution: int) -> float:
        if resolution not in self._reals_ms_ssim:
            self._reals_ms_ssim[resolution] = _ms_ssim(next(self._reals(resolution))[:GUARD_IMAGES])
        return self._reals_ms_ssim[resolution]

    def _write(self, images_shown: int, scalars: Mapping[str, float]) -> None:
        with _written_whole(self._run / "tensorboard", closing=self._writer.close):
            with self._writer.as_default(step=images_shown):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()

    def _tell(self, on_tick: OnTick, images_shown: int, scalars: Mapping[str, float], grid: Path) -> None:
        """Tell a function of a user's own. What goes wrong in it is reported, and does not end the run."""
        try:
            on_tick(images_shown, {name: float(value) for name, value in scalars.items()}, grid)
        except Exception as error:
            self._report(f"warning: --on-tick: {type(error).__name__}: {error}")

    def _show(self, kind: str, name: str, images: NDArray[np.uint8], images_shown: int) -> Path:
        """Save images as a grid, and write it for TensorBoard, too; there a large one is reduced by a whole factor.

        Returns the file of the grid.
        """
        grid = grid_of(images, self._config.network.resolution)
        file = self._run / "grids" / f"{name}.png"
        save_picture(grid, file)
        small = np.atleast_3d(np.asarray(grid.reduce(-(-grid.width // WIDEST_IN_TENSORBOARD))))
        with _written_whole(self._run / "tensorboard", closing=self._writer.close):
            with self._writer.as_default(step=images_shown):
                tf.summary.image(kind, small[None])
            self._writer.flush()
        return file

    def _status_line(
        self, images_shown: int, phase: Phase, losses: Mapping[str, float], rate: float, waiting: float
    ) -> str:
        stage = f"{phase.resolution}x{phase.resolution}"
        skipped = {name: round(losses[name] * len(self._losses[name])) for name in ("D_skipped", "G_skipped")}
        return (
            f"kimg {images_shown / 1000:.1f}/{self._config.training.total_kimg:.1f}  {stage}  alpha {phase.alpha:.2f}  "
            + "  ".join(f"{name} {losses[name]:.3f}" for name in IN_STATUS_LINE)
            + "".join(f"  {name} {steps}" for name, steps in skipped.items() if steps)
            + f"  {rate:.1f} images/s  input {waiting:.0%}"
        )


@contextmanager
def _written_whole(directory: Path, closing: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Take back what was added to the files of a directory within the block if it cannot be written whole.

    closing   closes the files then; it may fail, too
    Raises FileError, naming the directory.
    """
    before = {file: file.stat().st_size for file in directory.glob("*")}
    with named(directory):
        try:
            yield
        except Exception:
            with suppress(Exception):
                closing()
            for file in directory.glob("*"):
                if file in before:
                    os.truncate(file, before[file])
                else:
                    file.unlink()
            raise


def _ms_ssim(images: NDArray[np.uint8]) -> float:
    similarity = PairSimilarity()
    similarity.add(images)
    return similarity.mean()


def _weight_rms(state: TrainingState) -> dict[str, float]:
    """Return the root mean square of every kernel of both networks."""
    weights = [*state.generator.weights, *state.discriminator.weights]
    return {
        f"weight_rms/{weight.path}": float(np.sqrt(np.mean(np.square(weight.numpy(), dtype=np.float64))))
        for weight in weights
        if weight.path.endswith("kernel")
    }
