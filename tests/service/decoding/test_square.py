import numpy as np
from PIL import Image

from progan_service.decoding.square import to_square


def test_crop_takes_the_centre() -> None:
    image = Image.new("RGB", (12, 4), "black")
    image.paste("white", (4, 0, 8, 4))
    assert (to_square(image, 4, "crop") == 255).all()


def test_pad_keeps_all_and_fills_up_with_white() -> None:
    square = to_square(Image.new("RGB", (8, 4), "black"), 8, "pad")
    assert square.shape == (8, 8, 3)
    assert square[:, 0, 0].tolist() == [255, 255, 0, 0, 0, 0, 255, 255]


def test_a_very_thin_picture_keeps_at_least_one_pixel_of_width() -> None:
    square = to_square(Image.new("RGB", (1, 100), "black"), 4, "pad")
    assert (square == 0).all(axis=(0, 2)).sum() == 1


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (to_square(Image.fromarray(pixels), 8, "crop") == pixels).all()


def test_scaling_down_keeps_the_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert abs(to_square(Image.fromarray(pixels), 8, "crop").mean() - pixels.mean()) < 1.0


def test_a_small_picture_gets_borders_on_all_sides() -> None:
    """As MNIST's digits of 28 pixels at 32: two rows and columns on each side."""
    square = to_square(Image.new("L", (28, 28), 200), 32, "crop", enlarge=False, background="black")
    assert square.shape == (32, 32, 1)
    assert (square[2:-2, 2:-2] == 200).all()
    assert square.sum() == 28 * 28 * 200


def test_only_what_is_smaller_gets_them() -> None:
    image = Image.new("RGB", (12, 4), (200, 100, 50))
    whole = to_square(image, 16, "pad", enlarge=False, background="black")
    assert (whole[6:10, 2:14] == [200, 100, 50]).all()
    assert whole.sum() == 12 * 4 * 350
    centre = to_square(image, 8, "crop", enlarge=False, background="black")
    assert (centre[2:6, 2:6] == [200, 100, 50]).all()
    assert centre.sum() == 4 * 4 * 350
    larger = to_square(Image.new("RGB", (64, 64), (200, 100, 50)), 16, "crop", enlarge=False, background="black")
    assert (larger == [200, 100, 50]).all()


def test_a_small_picture_is_enlarged() -> None:
    image = Image.new("L", (4, 2), 90)
    assert (to_square(image, 16, "crop") == 90).all()
    whole = to_square(image, 16, "pad", background="black")
    assert whole[:, 0, 0].tolist() == [0] * 4 + [90] * 8 + [0] * 4


def test_or_it_is_stretched_without_borders() -> None:
    image = Image.new("RGB", (8, 4), "black")
    image.paste("white", (4, 0, 8, 4))
    stretched = to_square(image, 8, "stretch")
    assert (stretched[:, 0].max(), stretched[:, 7].min()) == (0, 255)
