"""What a run tells, a tick at a time."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from progan_service.training.run_log import RunLog, save_grid
from progan_service.training.schedule import Phase


@pytest.mark.parametrize(("count", "shape"), [(1, (4, 4)), (2, (4, 8)), (8, (8, 16)), (32, (16, 32)), (5, (8, 12))])
def test_a_grid_is_about_twice_as_wide_as_high(tmp_path: Path, count: int, shape: tuple[int, int]) -> None:
    save_grid(tmp_path / "grid.png", np.zeros((count, 4, 4, 3), np.uint8), 4)
    assert np.asarray(Image.open(tmp_path / "grid.png")).shape == (*shape, 3)


def test_a_grid_is_filled_row_by_row_and_the_rest_is_white(tmp_path: Path) -> None:
    images = np.array([10, 20, 30, 40, 50], np.uint8).reshape(5, 1, 1, 1)
    save_grid(tmp_path / "new" / "grid.png", images, 1)
    assert np.asarray(Image.open(tmp_path / "new" / "grid.png")).tolist() == [[10, 20, 30], [40, 50, 255]]


def test_a_small_image_is_shown_in_blocks(tmp_path: Path) -> None:
    save_grid(tmp_path / "grid.png", np.array([[[[1, 2, 3]]]], np.uint8), 2)
    assert np.asarray(Image.open(tmp_path / "grid.png")).tolist() == [[[1, 2, 3]] * 2] * 2


def test_a_status_line_tells_the_means_since_the_last_tick(tmp_path: Path) -> None:
    log = RunLog(tmp_path, total_images=60_000, image_size=4, images_shown=0)
    grid = np.zeros((1, 4, 4, 3), np.uint8)
    log.add({"D": tf.constant(1.0), "G": tf.constant(-1.0)})
    log.add({"D": tf.constant(2.0), "G": tf.constant(-2.0)})
    first = log.tick(12_340, Phase(8, 0.256, 4, 0.001), grid)
    assert first.startswith("kimg 12.3/60.0  8x8  alpha 0.26  D 1.500  G -1.500  ")
    assert first.endswith(" images/s")

    log.add({"D": tf.constant(5.0), "G": tf.constant(0.0)})
    assert "  D 5.000  G 0.000  " in log.tick(12_344, Phase(8, 1.0, 4, 0.001), grid)


def test_skipped_updates_are_told_only_when_there_were_some(tmp_path: Path) -> None:
    log = RunLog(tmp_path, total_images=1000, image_size=4, images_shown=0)
    grid = np.zeros((1, 4, 4, 3), np.uint8)
    log.add({"D": tf.constant(1.0), "D_skipped": tf.constant(0.0)})
    assert "skipped" not in log.tick(4, Phase(4, 1.0, 4, 0.001), grid)
    for skipped in (0.0, 1.0, 0.0, 0.0):
        log.add({"D": tf.constant(1.0), "D_skipped": tf.constant(skipped)})
    assert "  D_skipped 0.250  " in log.tick(20, Phase(4, 1.0, 4, 0.001), grid)
