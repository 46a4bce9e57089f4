"""Both networks against the numbers of the paper and of the original implementation."""

import math
from collections.abc import Iterable

import keras
import numpy as np
import pytest
import tensorflow as tf

from progan_service.config import NetworkConfig
from progan_service.model.layers import downscale2, upscale2
from progan_service.model.networks import Discriminator, Generator

SMALL = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16)


def count(weights: Iterable[keras.Variable]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


@pytest.fixture(scope="module")
def full_generator() -> Generator:
    return Generator(NetworkConfig(resolution=1024))


@pytest.fixture(scope="module")
def full_discriminator() -> Discriminator:
    return Discriminator(NetworkConfig(resolution=1024))


@pytest.fixture(scope="module")
def generator() -> Generator:
    keras.utils.set_random_seed(3)
    return Generator(SMALL)


@pytest.fixture(scope="module")
def discriminator() -> Discriminator:
    keras.utils.set_random_seed(4)
    return Discriminator(SMALL)


def latents(rows: int, size: int = 16) -> tf.Tensor:
    return tf.random.stateless_normal([rows, size], [5, 0])


def images(rows: int, resolution: int) -> tf.Tensor:
    return tf.random.stateless_uniform([rows, resolution, resolution, 3], [6, 0], -1, 1)


# Sizes


def test_parameters_at_1024(full_generator: Generator, full_discriminator: Discriminator) -> None:
    assert count(full_generator.weights) == 23_079_115
    assert count(full_discriminator.weights) == 23_087_249


@pytest.mark.parametrize(
    ("resolution", "generator_count", "discriminator_count"),
    [(32, 20_719_628, 20_726_785), (128, 22_933_394, 22_941_313), (256, 23_044_309, 23_052_353)],
)
def test_parameters_of_smaller_networks(resolution: int, generator_count: int, discriminator_count: int) -> None:
    config = NetworkConfig(resolution)
    assert count(Generator(config).weights) == generator_count
    assert count(Discriminator(config).weights) == discriminator_count


def test_parameters_that_a_finished_generator_uses(full_generator: Generator) -> None:
    unused = [layer for resolution, layer in full_generator.to_rgb.items() if resolution < 1024]
    assert count(full_generator.weights) - sum(count(layer.weights) for layer in unused) == 23_071_507


def test_scales_of_the_full_generator(full_generator: Generator) -> None:
    assert full_generator.input_block.dense.scale == pytest.approx(0.015625)
    assert full_generator.input_block.conv.scale == pytest.approx(0.020833333)
    scales = {r: (block.conv0.scale, block.conv1.scale) for r, block in full_generator.blocks.items()}
    assert scales[8] == scales[16] == scales[32] == pytest.approx((0.020833333, 0.020833333))
    assert scales[64] == pytest.approx((0.020833333, 0.029462783))
    assert scales[128] == pytest.approx((0.029462783, 0.041666667))
    assert scales[256] == pytest.approx((0.041666667, 0.058925565))
    assert scales[512] == pytest.approx((0.058925565, 0.083333333))
    assert scales[1024] == pytest.approx((0.083333333, 0.117851130))
    to_rgb = {r: layer.scale for r, layer in full_generator.to_rgb.items()}
    assert to_rgb[4] == to_rgb[32] == pytest.approx(0.044194174)
    assert (to_rgb[64], to_rgb[128], to_rgb[1024]) == pytest.approx((0.0625, 0.088388348, 0.25))


def test_scales_of_the_full_discriminator(full_discriminator: Discriminator) -> None:
    assert [layer.scale for layer in full_discriminator.from_rgb.values()] == pytest.approx([0.816496581] * 9)
    block = full_discriminator.blocks[1024]
    assert (block.conv0.scale, block.conv1.scale) == pytest.approx((0.117851130, 0.117851130))
    output = full_discriminator.output_block
    assert output.conv.scale == pytest.approx(0.020813018)
    assert output.dense0.scale == pytest.approx(0.015625)
    assert output.dense1.scale == pytest.approx(0.044194174)


# Inputs and outputs


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_images_have_the_resolution_of_the_stage(generator: Generator, resolution: int) -> None:
    assert generator(latents(3), resolution=resolution).shape == (3, resolution, resolution, 3)


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_every_image_gets_one_score_and_no_labels(discriminator: Discriminator, resolution: int) -> None:
    scores, labels = discriminator(images(4, resolution), resolution=resolution)
    assert scores.shape == (4,)
    assert labels.shape == (4, 0)


def test_grey_labelled_networks() -> None:
    config = NetworkConfig(resolution=8, channels=1, label_size=3, fmap_base=32, fmap_max=8)
    made = Generator(config)(latents(2, 8), tf.one_hot([0, 2], 3), resolution=8)
    scores, labels = Discriminator(config)(made, resolution=8)
    assert made.shape == (2, 8, 8, 1)
    assert scores.shape == (2,)
    assert labels.shape == (2, 3)


def test_only_the_direction_of_a_latent_matters(generator: Generator) -> None:
    z = latents(2)
    np.testing.assert_allclose(generator(3 * z, resolution=16), generator(z, resolution=16), atol=1e-5)


def test_a_generators_images_do_not_depend_on_their_batch(generator: Generator) -> None:
    z = latents(4)
    np.testing.assert_allclose(generator(z[1:2], resolution=16)[0], generator(z, resolution=16)[1], atol=1e-5)


def test_weights_have_names_of_their_own(generator: Generator, discriminator: Discriminator) -> None:
    paths = [weight.path for weight in (*generator.weights, *discriminator.weights)]
    assert len(set(paths)) == len(paths)
    assert "generator/4x4/dense/kernel" in paths
    assert "generator/to_rgb_16x16/bias" in paths
    assert "discriminator/8x8/conv1/kernel" in paths


# Fading


@pytest.mark.parametrize("resolution", [8, 16])
def test_at_alpha_zero_a_generator_shows_the_smaller_ones_images(generator: Generator, resolution: int) -> None:
    z = latents(3)
    faded = generator(z, resolution=resolution, alpha=tf.constant(0.0))
    np.testing.assert_allclose(faded, upscale2(generator(z, resolution=resolution // 2)), atol=1e-6)


@pytest.mark.parametrize("resolution", [8, 16])
def test_at_alpha_zero_a_discriminator_judges_downscaled_images(discriminator: Discriminator, resolution: int) -> None:
    x = images(4, resolution)
    faded, _ = discriminator(x, resolution=resolution, alpha=tf.constant(0.0))
    smaller, _ = discriminator(downscale2(x), resolution=resolution // 2)
    np.testing.assert_allclose(faded, smaller, atol=1e-6)


def test_at_alpha_one_fading_is_over(generator: Generator, discriminator: Discriminator) -> None:
    one, z, x = tf.constant(1.0), latents(4), images(4, 16)
    np.testing.assert_allclose(generator(z, resolution=16, alpha=one), generator(z, resolution=16), atol=1e-6)
    np.testing.assert_allclose(
        discriminator(x, resolution=16, alpha=one)[0], discriminator(x, resolution=16)[0], atol=1e-6
    )


def test_halfway_both_resolutions_count_the_same(generator: Generator) -> None:
    z = latents(2)
    halfway = generator(z, resolution=8, alpha=tf.constant(0.5))
    mean = (upscale2(generator(z, resolution=4)) + generator(z, resolution=8)) / 2
    np.testing.assert_allclose(halfway, mean, atol=1e-6)


def test_at_four_pixels_there_is_nothing_to_fade_from(generator: Generator, discriminator: Discriminator) -> None:
    half, z, x = tf.constant(0.5), latents(4), images(4, 4)
    np.testing.assert_array_equal(generator(z, resolution=4, alpha=half), generator(z, resolution=4))
    np.testing.assert_array_equal(discriminator(x, resolution=4, alpha=half)[0], discriminator(x, resolution=4)[0])
