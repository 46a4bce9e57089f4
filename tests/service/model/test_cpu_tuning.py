"""The soonest algorithms are found by trying, and compute the same function."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from progan_service.config import NetworkConfig
from progan_service.model import cpu_tuning
from progan_service.model.cpu_tuning import tuned_for_cpu
from progan_service.model.inference import InferenceGenerator, Layer
from progan_service.model.minimal_filtering import DifferenceUpscaling, Winograd
from progan_service.model.networks import Generator

SMALL = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16)
LARGE = NetworkConfig(resolution=32, fmap_base=4096, fmap_max=128)  # 150 million multiplications at 32x32

Pace = Callable[[Layer, int], float]
SetPace = Callable[[Pace], None]


@pytest.fixture(scope="module")
def generator() -> Generator:
    keras.utils.set_random_seed(3)
    return Generator(LARGE)


@pytest.fixture(scope="module")
def network(generator: Generator) -> InferenceGenerator:
    return InferenceGenerator(generator, 32)


@pytest.fixture
def set_pace(monkeypatch: pytest.MonkeyPatch) -> SetPace:
    """Sets in how many seconds a layer takes one image, by its features' height. Of a batch each image takes 1 s."""

    def set_to(pace: Pace) -> None:
        def seconds(function: Any, x: tf.Tensor) -> float:
            rows, height = x.shape[:2]
            return pace(function.python_function, height) if rows == 1 else 1.0 * rows

        monkeypatch.setattr(cpu_tuning, "_seconds", seconds)

    return set_to


def assert_same_function(one: InferenceGenerator, other: InferenceGenerator) -> None:
    latents = tf.random.stateless_normal([3, 128], [5, 0])
    np.testing.assert_allclose(one(latents), other(latents), atol=1e-4)


def test_a_small_network_is_left_alone_untried(set_pace: SetPace) -> None:
    set_pace(lambda *_: pytest.fail("tried"))
    generator = Generator(SMALL)
    assert tuned_for_cpu(InferenceGenerator(generator, 16), generator) is None


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_an_early_stage_of_a_large_network_is_small(generator: Generator, set_pace: SetPace, resolution: int) -> None:
    set_pace(lambda *_: pytest.fail("tried"))
    assert tuned_for_cpu(InferenceGenerator(generator, resolution), generator) is None


def test_whatever_is_soonest_here_is_the_same_function(network: InferenceGenerator, generator: Generator) -> None:
    tuned, names = tuned_for_cpu(network, generator) or (network, {})
    layers = ["8x8/conv0", "8x8/conv1", "16x16/conv0", "16x16/conv1", "32x32/conv0", "32x32/conv1"]
    assert list(names) in (layers, layers[2:], layers[4:], [])
    assert_same_function(tuned, network)


@pytest.mark.parametrize(
    ("name", "tile", "rows"),
    [
        ("Winograd 2x2", 2, 32),
        ("Winograd 2x2, 16 rows", 2, 16),
        ("Winograd 4x4", 4, 32),
        ("Winograd 4x4, 16 rows", 4, 16),
    ],
)
def test_each_layer_takes_its_soonest_algorithm(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace, name: str, tile: int, rows: int
) -> None:
    """At 32x32; the blocks before are sooner in batches."""

    def pace(layer: Layer, height: int) -> float:
        if isinstance(layer, Winograd):
            return 0.5 if (height, layer.tile, layer.rows) == (32, tile, rows) else 2.0
        return 0.5 if isinstance(layer, DifferenceUpscaling) and height == 16 else 2.0

    set_pace(pace)
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert names == {"32x32/conv0": "by differences", "32x32/conv1": name}
    assert_same_function(tuned, network)


def test_a_layer_may_keep_its_algorithm_where_its_block_takes_one_image_at_a_time(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    set_pace(lambda layer, _: {DifferenceUpscaling: 0.1, Winograd: 2.0}.get(type(layer), 1.5))
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert names == {
        "8x8/conv0": "by differences",
        "8x8/conv1": "direct",
        "16x16/conv0": "by differences",
        "16x16/conv1": "direct",
        "32x32/conv0": "by differences",
        "32x32/conv1": "direct",
    }
    assert_same_function(tuned, network)


def test_where_batches_are_sooner_the_network_is_left_alone(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    set_pace(lambda *_: 1.1)
    assert tuned_for_cpu(network, generator) is None


def test_one_at_a_time_are_the_blocks_from_some_resolution_on(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    """So the blocks of 16x16 and 32x32 lose 0.2 s and 1.3 s, or 2 s, for the 1.7 s that the one of 8x8 gains."""
    seconds = {4: 0.1, 8: 0.2, 16: 2.0, 32: 1.3}
    set_pace(lambda _, height: seconds[height])
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert set(names) == {f"{r}x{r}/{layer}" for r in (8, 16, 32) for layer in ("conv0", "conv1")}
    assert_same_function(tuned, network)
    seconds[32] = 2.0
    assert tuned_for_cpu(network, generator) is None
