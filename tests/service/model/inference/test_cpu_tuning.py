"""The fastest algorithms are found by trying, and compute the same function."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from progan_service.model.config import NetworkConfig
from progan_service.model.inference import cpu_tuning
from progan_service.model.inference.cpu_tuning import tuned_for_cpu
from progan_service.model.inference.generator import Arrangement, Convolution, InferenceGenerator, Layer, Upscaling
from progan_service.model.inference.minimal_filtering import DifferenceUpscaling, Winograd
from progan_service.model.inference.rows_first import RowConvolution, RowUpscaling, RowWinograd
from progan_service.model.networks import Generator

SMALL = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16)
LARGE = NetworkConfig(resolution=32, fmap_base=4096, fmap_max=128)  # 150 million multiplications at 32x32

Pace = Callable[[Layer, int], float]
SetPace = Callable[[Pace], None]

ALONE = (DifferenceUpscaling, Winograd)  # layers that take one image at a time
ROWS_FIRST = (RowUpscaling, RowWinograd, RowConvolution)  # layers that take features [H, N, W, C]


@pytest.fixture(scope="module")
def generator() -> Generator:
    keras.utils.set_random_seed(3)
    return Generator(LARGE)


@pytest.fixture(scope="module")
def network(generator: Generator) -> InferenceGenerator:
    return InferenceGenerator(generator, 32)


@pytest.fixture
def set_pace(monkeypatch: pytest.MonkeyPatch) -> SetPace:
    """Sets the seconds per image of a layer by the height of its features. In batches, the layers of the given network
    take one second per image."""

    def set_to(pace: Pace) -> None:
        def seconds(function: Any, x: tf.Tensor) -> float:
            layer, (first, second, *_) = function.python_function, x.shape
            height, images = (first, second) if isinstance(layer, ROWS_FIRST) else (second, first)
            as_it_is = images > 1 and not isinstance(layer, ROWS_FIRST)
            return images * (1.0 if as_it_is else pace(layer, height))

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


def test_whatever_is_fastest_here_is_the_same_function(network: InferenceGenerator, generator: Generator) -> None:
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
def test_each_layer_takes_its_fastest_algorithm(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace, name: str, tile: int, rows: int
) -> None:
    """At 32x32; the blocks before are faster in batches."""

    def pace(layer: Layer, height: int) -> float:
        if isinstance(layer, Winograd):
            return 0.5 if (height, layer.tile, layer.rows) == (32, tile, rows) else 2.0
        return (0.5 if height == 16 else 2.0) if isinstance(layer, DifferenceUpscaling) else 1.1

    set_pace(pace)
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert names == {"32x32/conv0": "by differences", "32x32/conv1": name}
    assert tuned.arrangement is Arrangement.ONE_BY_ONE
    assert_same_function(tuned, network)


def test_a_layer_may_keep_its_algorithm_where_its_block_takes_one_image_at_a_time(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    set_pace(lambda layer, _: {DifferenceUpscaling: 0.1, Upscaling: 1.1, Convolution: 1.1}.get(type(layer), 2.0))
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


@pytest.mark.parametrize(("winograd", "name"), [(0.5, "Winograd 4x1"), (0.7, "direct")])
def test_rows_come_first_where_that_is_fastest(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace, winograd: float, name: str
) -> None:
    """At 32x32 alone, where features of 4x4 and 8x8 gain nothing."""

    def pace(layer: Layer, height: int) -> float:
        gaining, other = {RowWinograd: winograd, RowConvolution: 0.6}.get(type(layer), 0.5), 2.0
        return (gaining if height > 8 else other) if isinstance(layer, ROWS_FIRST) else 1.1

    set_pace(pace)
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert names == {"32x32/conv0": "by differences of rows", "32x32/conv1": name}
    assert tuned.arrangement is Arrangement.ROWS_FIRST
    assert_same_function(tuned, network)


@pytest.mark.parametrize(("alone", "rows_first"), [(0.5, 0.6), (0.6, 0.5)])
def test_the_better_arrangement_is_taken(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace, alone: float, rows_first: float
) -> None:
    set_pace(lambda layer, _: alone if isinstance(layer, ALONE) else rows_first if isinstance(layer, ROWS_FIRST) else 1)
    tuned, _ = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert tuned.arrangement is (Arrangement.ONE_BY_ONE if alone < rows_first else Arrangement.ROWS_FIRST)
    assert list(tuned.last) == [8, 16, 32]


def test_the_search_tells_how_far_it_is(network: InferenceGenerator, generator: Generator, set_pace: SetPace) -> None:
    set_pace(lambda *_: 1.1)
    told: list[tuple[str, int, int]] = []
    tuned_for_cpu(network, generator, lambda *at: told.append(at))
    stage = "trying algorithms in float32"  # three blocks of two layers, eight turns each
    assert (told[0], told[-1], len(told)) == ((stage, 1, 48), (stage, 48, 48), 48)


def test_slow_algorithms_are_tried_three_times_and_others_eight_times(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    tried: list[str] = []

    def pace(layer: Layer, height: int) -> float:
        if height == 32:
            tried.append(type(layer).__name__)
        return 1.0 if isinstance(layer, ROWS_FIRST) else 2.9 if isinstance(layer, Winograd) else 3.1

    set_pace(pace)
    tuned_for_cpu(network, generator)
    assert tried.count("Winograd") == 4 * 8  # tiles of two and of four, each with all rows and in strips
    assert tried.count("Convolution") == 8 + 3  # (3.1 + 1.0) / 2 s as a batch, 3.1 s one by one


def test_where_batches_are_sooner_the_network_is_left_alone(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    set_pace(lambda *_: 1.1)
    assert tuned_for_cpu(network, generator) is None


def test_the_blocks_from_some_resolution_on_are_changed(
    network: InferenceGenerator, generator: Generator, set_pace: SetPace
) -> None:
    """So the blocks of 16x16 and 32x32 lose 0.1 s and 0.65 s, or 1 s, for the 0.85 s that the one of 8x8 gains."""
    seconds = {4: 0.1, 8: 0.2, 16: 2.0, 32: 1.3}
    set_pace(lambda layer, height: 10.0 if isinstance(layer, ROWS_FIRST) else seconds[height])
    tuned, names = tuned_for_cpu(network, generator) or pytest.fail("left alone")
    assert set(names) == {f"{r}x{r}/{layer}" for r in (8, 16, 32) for layer in ("conv0", "conv1")}
    assert_same_function(tuned, network)
    seconds[32] = 2.0
    assert tuned_for_cpu(network, generator) is None
