"""What a run tells: a status line, TensorBoard scalars and an image grid every tick."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.training.schedule import Phase


def save_grid(path: Path, images: NDArray[np.uint8], size: int) -> None:
    """Tile images [N, H, W, C] in a grid about twice as wide as high, each shown size x size (nearest neighbour)."""
    count, channels = len(images), images.shape[-1]
    columns = max(1, round((2 * count) ** 0.5))
    rows = -(-count // columns)
    grid = np.full((rows * columns, size, size, channels), 255, np.uint8)
    zoom = size // images.shape[1]
    grid[:count] = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    sheet = grid.reshape(rows, columns, size, size, channels).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * size, columns * size, channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(path)


class RunLog:
    """Gathers the losses of the steps between two ticks and writes their means."""

    def __init__(self, run: Path, total_images: int, image_size: int, images_shown: int) -> None:
        self._run = run
        self._total_images = total_images
        self._image_size = image_size
        self._losses: dict[str, list[tf.Tensor]] = {}
        self._tick_started = (time.monotonic(), images_shown)
        self._writer = tf.summary.create_file_writer(str(run / "tensorboard"))

    def add(self, losses: Mapping[str, tf.Tensor]) -> None:
        """The losses of one step, by name."""
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(value)

    def tick(self, images_shown: int, phase: Phase, grid: NDArray[np.uint8]) -> str:
        """Write the scalars and the grid, return the status line."""
        losses = {name: float(np.mean(values)) for name, values in self._losses.items()}
        started, images_before = self._tick_started
        rate = (images_shown - images_before) / (time.monotonic() - started)
        scalars = {
            **{f"loss/{name}": value for name, value in losses.items()},
            "schedule/resolution": phase.resolution,
            "schedule/alpha": phase.alpha,
            "schedule/learning_rate": phase.learning_rate,
            "speed/images_per_s": rate,
        }
        with self._writer.as_default(step=images_shown):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        save_grid(self._run / "grids" / f"fakes-{images_shown:09d}.png", grid, self._image_size)
        self._losses.clear()
        self._tick_started = (time.monotonic(), images_shown)
        return self._status_line(images_shown, phase, losses, rate)

    def _status_line(self, images_shown: int, phase: Phase, losses: Mapping[str, float], rate: float) -> str:
        stage = f"{phase.resolution}x{phase.resolution}"
        telling = {name: value for name, value in losses.items() if value or not name.endswith("_skipped")}
        return (
            f"kimg {images_shown / 1000:.1f}/{self._total_images / 1000:.1f}  {stage}  alpha {phase.alpha:.2f}  "
            + "  ".join(f"{name} {value:.3f}" for name, value in telling.items())
            + f"  {rate:.1f} images/s"
        )
