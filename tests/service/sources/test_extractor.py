"""Networks for features: what they are given, and what they must give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.sources.extractor import Extractor, ExtractorError, open_extractor

Function = Callable[[Any], Any]


def saved(directory: Path, give: Function, *shape: int | None, dtype: Any = tf.float32) -> Path:
    """A SavedModel whose signature gives this of images [None, *shape]."""
    signature = tf.function(lambda images: give(images)).get_concrete_function(
        tf.TensorSpec([None, *shape], dtype, name="images")
    )
    tf.saved_model.save(tf.Module(), str(directory), signatures={"serving_default": signature})
    return directory


def opened(module: Path, value_range: str = "signed") -> Extractor:
    return open_extractor(str(module), module.parent, value_range=value_range, progress=lambda *_: None)


def corners(images: Any) -> dict[str, Any]:
    """The first and the last pixel of each image."""
    return {"features": tf.concat([images[:, 0, 0], images[:, -1, -1]], axis=1)}


def black_to_white() -> Any:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[:, 2:, 2:] = 255
    return images


@pytest.mark.parametrize(("value_range", "black", "white"), [("signed", -1, 1), ("unit", 0, 1), ("byte", 0, 255)])
def test_pixels_come_in_the_range_that_is_asked_for(tmp_path: Path, value_range: str, black: int, white: int) -> None:
    extract = opened(saved(tmp_path / "net", corners, 8, 8, 3), value_range)
    assert extract(black_to_white())[0].tolist() == pytest.approx([black] * 3 + [white] * 3)


def test_images_are_scaled_to_the_size_of_the_signature_between_the_centres_of_pixels(tmp_path: Path) -> None:
    extract = opened(saved(tmp_path / "net", lambda images: {"row": images[:, 0, :, 0]}, 2, 4, 3), "byte")
    assert extract.size == (2, 4)
    images = np.repeat(np.array([0, 100], np.uint8)[None, None, :, None], 2, axis=1)  # grey, 2x2
    assert extract(images).tolist() == [[0, 25, 75, 100]]


def test_a_network_for_any_size_gets_299x299(tmp_path: Path) -> None:
    def size(images: Any) -> dict[str, Any]:
        return {"size": tf.ones([tf.shape(images)[0], 1]) * tf.cast(tf.shape(images)[1:3], tf.float32)}

    extract = opened(saved(tmp_path / "net", size, None, None, 3))
    assert extract(black_to_white()).tolist() == [[299, 299]]


def test_many_images_come_in_their_order_and_features_of_any_shape_are_a_row(tmp_path: Path) -> None:
    extract = opened(saved(tmp_path / "net", lambda images: {"pool": images[:, :1, :1]}, 8, 8, 3), "byte")
    images = np.arange(70, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    assert extract(images).tolist() == [[number] * 3 for number in range(70)]


def test_of_several_outputs_the_pool_counts(tmp_path: Path) -> None:
    def both(images: Any) -> dict[str, Any]:
        return {"logits": images[:, 0, 0], "pool_3": images[:, 0, 0] + 1}

    assert opened(saved(tmp_path / "net", both, 8, 8, 3), "byte")(black_to_white()).tolist() == [[1, 1, 1]]


def test_a_module_without_signatures_is_called_and_its_weights_stay(tmp_path: Path) -> None:
    class Net(tf.Module):
        def __init__(self) -> None:
            self.gain = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 299, 299, 3])])
        def __call__(self, images: Any) -> Any:
            return {"logits": images[:, 0, 0] * 0, "pool_3": images[:, -1, -1] * self.gain}

    tf.saved_model.save(Net(), str(tmp_path / "net"), signatures={})
    assert opened(tmp_path / "net", "unit")(black_to_white()).tolist() == [[2, 2, 2]]


# What gives no features


def refusal(module: Path) -> str:
    with pytest.raises(ExtractorError) as refused:
        opened(module)(np.zeros((2, 8, 8, 3), np.uint8))
    return str(refused.value)


def test_a_network_that_takes_no_images_is_named(tmp_path: Path) -> None:
    module = saved(tmp_path / "net", lambda latents: {"images": latents}, 16)
    assert refusal(module) == "net: takes float32 [?, 16]; must take images, float32 [?, H, W, 3]"
    module = saved(tmp_path / "bytes", lambda images: {"features": images[:, 0, 0]}, 8, 8, 3, dtype=tf.uint8)
    assert refusal(module) == "bytes: takes uint8 [?, 8, 8, 3]; must take images, float32 [?, H, W, 3]"


def test_outputs_that_leave_a_choice_are_named(tmp_path: Path) -> None:
    module = saved(tmp_path / "net", lambda x: {"a": x[:, 0, 0], "b": x[:, 1, 1]}, 8, 8, 3)
    assert refusal(module) == "net: gives a, b; must give one output, or one named pool_3"


def test_one_row_for_all_images_is_named(tmp_path: Path) -> None:
    module = saved(tmp_path / "net", lambda x: {"mean": tf.reduce_mean(x, axis=[0, 1, 2])[None]}, 8, 8, 3)
    assert refusal(module) == "net: gives [1, 3] of 2 images; features are [N, F]"


def test_features_that_are_not_finite_are_named(tmp_path: Path) -> None:
    module = saved(tmp_path / "net", lambda x: {"log": tf.math.log(x[:, 0, 0])}, 8, 8, 3)
    assert refusal(module) == "net: gives features that are not finite; another --feature-range may help"
