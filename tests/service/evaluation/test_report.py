from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.evaluation.images import ImageSetError
from progan_service.evaluation.report import Evaluation, Reference, Scores, evaluate

Draw = Callable[[int, int, int], NDArray[np.uint8]]

EVALUATION = Evaluation(
    resolution=32,
    image_count=2048,
    seed=7,
    reals=Scores(swd={32: 3.5, 16: 2.25}, ms_ssim=0.28382),
    fakes=Scores(swd={32: 12.994, 16: 108.736}, ms_ssim=0.4),
)


def test_the_table_has_the_columns_of_the_literature() -> None:
    assert EVALUATION.table().splitlines() == [
        "2048 images           SWDx1e3_32  SWDx1e3_16  SWDx1e3_avg  MS-SSIM",
        "Reals2 (noise floor)        3.50        2.25         2.88   0.2838",
        "Fakes                      12.99      108.74        60.87   0.4000",
    ]


def test_a_perfect_generator_reaches_the_noise_floor_and_noise_does_not(draw_blocks: Draw) -> None:
    reals = draw_blocks(1, 64, 32)
    noise = np.random.RandomState(0).randint(0, 256, reals.shape).astype(np.uint8)
    with Reference([reals], [reals], image_count=64, seed=0) as reference:
        perfect = reference.evaluate([reals])
        poor = reference.evaluate([noise])
    assert perfect.fakes.swd_mean == pytest.approx(perfect.reals.swd_mean, rel=0.1)
    assert perfect.fakes.ms_ssim == perfect.reals.ms_ssim
    assert poor.fakes.swd_mean > 3 * poor.reals.swd_mean


def test_a_collapsed_generator_shows_in_both_figures(draw_blocks: Draw) -> None:
    reals = draw_blocks(1, 64, 16)
    found = evaluate([reals], [reals], [reals[:1].repeat(64, axis=0)], image_count=64, seed=0)
    assert found.fakes.ms_ssim == pytest.approx(1.0, abs=1e-12)
    assert found.fakes.swd_mean > 5 * found.reals.swd_mean


def test_reals_are_read_once_for_any_number_of_fakes(draw_blocks: Draw) -> None:
    reals, fakes = draw_blocks(1, 16, 16), draw_blocks(2, 16, 16)
    with Reference(iter([reals]), iter([reals]), image_count=16, seed=3) as reference:
        twice = [reference.evaluate(iter([fakes])) for _ in range(2)]
    assert twice == [evaluate([reals], [reals], [fakes], image_count=16, seed=3)] * 2


def test_batches_of_any_size_give_the_same_evaluation(draw_blocks: Draw) -> None:
    sets = [draw_blocks(seed, 12, 32) for seed in range(3)]
    found = [
        evaluate(*([images[i : i + size] for i in range(0, 12, size)] for images in sets), image_count=12, seed=0)
        for size in (1, 5, 12)
    ]
    assert found == [found[0]] * 3


def test_no_more_images_are_asked_for_than_are_needed(draw_blocks: Draw) -> None:
    asked = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            asked.append(8)
            yield draw_blocks(len(asked), 8, 16)

    found = evaluate(endless(), endless(), endless(), image_count=20, seed=0)
    assert found.image_count == 20
    assert len(asked) == 3 * 3


def test_images_below_16_pixels_have_one_level(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 4, 8)
    found = evaluate([images], [images], [images], image_count=4, seed=0)
    assert list(found.fakes.columns()) == ["SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM"]
    assert found.resolution == 8


def test_every_stage_tells_how_far_it_is(draw_blocks: Draw) -> None:
    told: list[tuple[str, int, int]] = []
    batches = np.split(draw_blocks(1, 8, 32), 2)
    evaluate(batches, batches, batches, image_count=8, seed=0, progress=lambda *what: told.append(what))
    assert told == [
        ("Reals", 4, 8),
        ("Reals", 8, 8),
        ("Reals2", 4, 8),
        ("Reals2", 8, 8),
        ("SWD Reals2", 512, 1024),
        ("SWD Reals2", 1024, 1024),
        ("Fakes", 4, 8),
        ("Fakes", 8, 8),
        ("SWD Fakes", 512, 1024),
        ("SWD Fakes", 1024, 1024),
    ]


def test_too_few_images_are_refused_by_name(draw_blocks: Draw) -> None:
    images = draw_blocks(1, 8, 16)
    with pytest.raises(ImageSetError, match="Reals: 8 images, 9 are needed"):
        evaluate([images], [images], [images], image_count=9, seed=0)
    with pytest.raises(ImageSetError, match="Fakes: 6 images, 8 are needed"):
        evaluate([images], [images], [images[:6]], image_count=8, seed=0)
    with pytest.raises(ImageSetError, match="image_count is 1: an evaluation needs at least 2 images"):
        evaluate([images], [images], [images], image_count=1, seed=0)


def test_fakes_of_another_shape_are_refused_at_the_first_batch(draw_blocks: Draw) -> None:
    reals = draw_blocks(1, 8, 32)
    with Reference([reals], [reals], image_count=8, seed=0) as reference:
        with pytest.raises(ImageSetError, match=r"Fakes: images are \[16, 16, 3\], the reals \[32, 32, 3\]"):
            reference.evaluate(draw_blocks(seed, 1, 16) for seed in range(8))
        assert reference.evaluate([reals]).resolution == 32
