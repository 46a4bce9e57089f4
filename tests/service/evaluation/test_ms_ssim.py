from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError
from progan_service.evaluation.ms_ssim import PairSimilarity, ms_ssim

Draw = Callable[[int, int, int], NDArray[np.uint8]]


def test_the_original_implementation_gives_the_same_figures(draw_blocks: Draw) -> None:
    large = draw_blocks(3, 8, 256)
    noise = np.random.RandomState(4).randint(-20, 21, (8, 3, 256, 256)).transpose(0, 2, 3, 1)
    noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
    assert ms_ssim(large, noisy).mean() == pytest.approx(0.9923805329339891, abs=1e-6)
    assert ms_ssim(draw_blocks(1, 64, 64), draw_blocks(2, 64, 64)).mean() == pytest.approx(0.0326211044, abs=1e-6)


def test_every_pair_has_its_own_figure(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 3, 32)
    figures = ms_ssim(images, images[[0, 2, 1]])
    assert figures[0] == pytest.approx(1.0, abs=1e-12)
    assert figures[1] == figures[2] < 0.5


def test_an_image_and_its_negative_have_nothing_in_common() -> None:
    squares = np.indices((1, 32, 32, 1)).sum(axis=0) // 8 % 2 * 255
    assert ms_ssim(squares.astype(np.uint8), (255 - squares).astype(np.uint8)).tolist() == [0.0]


def test_grey_is_as_three_equal_colours(draw_blocks: Draw) -> None:
    a, b = draw_blocks(1, 4, 32)[..., :1], draw_blocks(1, 4, 32)[..., 1:2]
    assert ms_ssim(a, b) == pytest.approx(ms_ssim(a.repeat(3, axis=3), b.repeat(3, axis=3)), abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (8, 8), (11, 11), (7, 50), (33, 33)])
def test_every_size_has_five_scales(shape: tuple[int, int]) -> None:
    images = np.random.RandomState(0).randint(0, 256, (2, *shape, 3)).astype(np.uint8)
    assert ms_ssim(images, images).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert ms_ssim(images[:1], images[1:])[0] < 1


def test_a_generator_that_draws_one_image_scores_1(draw_blocks: Draw) -> None:
    similarity = PairSimilarity()
    similarity.add(draw_blocks(1, 1, 16).repeat(10, axis=0))
    assert similarity.mean() == pytest.approx(1.0, abs=1e-12)


def test_each_even_image_is_paired_with_the_next_one(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 6, 32)
    similarity = PairSimilarity()
    similarity.add(images)
    assert similarity.mean() == ms_ssim(images[::2], images[1::2]).mean()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 12])
def test_batches_of_any_size_give_the_same_mean(draw_blocks: Draw, batch_size: int) -> None:
    images = draw_blocks(1, 12, 64)
    similarity = PairSimilarity()
    for start in range(0, 12, batch_size):
        similarity.add(images[start : start + batch_size])
    assert similarity.mean() == ms_ssim(images[::2], images[1::2]).mean()


def test_an_odd_image_at_the_end_is_left_out(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 5, 32)
    odd, even = PairSimilarity(), PairSimilarity()
    odd.add(images)
    even.add(images[:4])
    assert odd.mean() == even.mean()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "images are float32: they must be uint8, 0 to 255"),
        (np.zeros((8, 8, 3), np.uint8), r"a batch is \[8, 8, 3\]: it must be \[N, H, W, C\] with 1 or 3 channels"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"a batch is \[2, 8, 8, 4\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"an image is \[4, 4, 3\], those before it \[8, 8, 3\]"),
    ],
)
def test_what_is_no_batch_of_the_set_is_refused(images: NDArray[np.uint8], message: str) -> None:
    similarity = PairSimilarity()
    similarity.add(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ImageSetError, match=message):
        similarity.add(images)


def test_a_single_image_has_no_mean() -> None:
    similarity = PairSimilarity()
    similarity.add(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ImageSetError, match="a set has fewer than 2 images: MS-SSIM compares pairs"):
        similarity.mean()


def test_pairs_of_unlike_shapes_are_refused() -> None:
    with pytest.raises(ImageSetError, match=r"batches are \[2, 8, 8, 3\] and \[3, 8, 8, 3\]: pairs need equal shapes"):
        ms_ssim(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 8, 8, 3), np.uint8))
