import numpy as np

from progan_service.data.making.pyramid import box_pyramid


def test_an_image_of_16_has_levels_of_16_8_and_4() -> None:
    levels = list(box_pyramid(np.zeros((16, 16, 3), np.uint8)))
    assert [level.shape for level in levels] == [(16, 16, 3), (8, 8, 3), (4, 4, 3)]


def test_an_image_of_4_has_one_level() -> None:
    assert len(list(box_pyramid(np.zeros((4, 4, 1), np.uint8)))) == 1


def test_the_mean_of_four_pixels_is_rounded_half_to_even() -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    image[:2, :2, 0] = [[10, 20], [30, 41]]  # mean 25.25
    image[:2, 2:4, 0] = [[0, 1], [1, 0]]  # mean 0.5
    image[:2, 4:6, 0] = [[1, 2], [2, 1]]  # mean 1.5
    image[:2, 6:8, 0] = [[255, 255], [255, 255]]
    _, half = box_pyramid(image)
    assert half[0, :, 0].tolist() == [25, 0, 2, 255]


def test_rounding_of_one_level_does_not_reach_the_next() -> None:
    """Sixteen pixels of mean 0.5625: levels rounded one by one would say 0.5 -> 0, then 0."""
    image = np.zeros((16, 16, 1), np.uint8)
    image[:4, :4, 0] = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1]]
    _, half, quarter = box_pyramid(image)
    assert half[:2, :2, 0].tolist() == [[0, 0], [0, 1]]
    assert quarter[0, 0, 0] == 1


def test_channels_stay_apart() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0], image[..., 2] = 40, 80
    _, half = box_pyramid(image)
    assert half[3, 3].tolist() == [40, 0, 80]
