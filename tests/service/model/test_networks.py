"""Both networks against the numbers of the paper and of the original implementation."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from processor import in_bfloat16

from progan_service.model.config import NetworkConfig
from progan_service.model.layers import downscale2, upscale2
from progan_service.model.networks import Discriminator, Generator

SMALL = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16)
POST_ACT = replace(SMALL, d_pool="post_act")

COMPUTE = [{"fused": True}, {"fused": False}, {"fused": True, "activations": "bfloat16"}]

Network = TypeVar("Network", Generator, Discriminator)


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
    return small_generator()


@pytest.fixture(scope="module")
def discriminator() -> Discriminator:
    return small_discriminator()


def small_generator(**compute: Any) -> Generator:
    """Always with the same weights."""
    keras.utils.set_random_seed(3)
    return with_biases(Generator(SMALL, **compute))


def small_discriminator(config: NetworkConfig = SMALL, **compute: Any) -> Discriminator:
    """Always with the same weights."""
    keras.utils.set_random_seed(4)
    return with_biases(Discriminator(config, **compute))


def with_biases(network: Network) -> Network:
    """Biases begin at zero, where a wrong order of bias and scaling would not show."""
    for weight in network.weights:
        if weight.path.endswith("bias"):
            weight.assign(keras.random.normal(weight.shape, stddev=0.3))
    return network


def latents(rows: int, size: int = 16) -> tf.Tensor:
    return tf.random.stateless_normal([rows, size], [5, 0])


def images(rows: int, resolution: int) -> tf.Tensor:
    """Pixels are multiples of 1/16, so that they and their means are bfloat16 values too."""
    return (
        tf.cast(tf.random.stateless_uniform([rows, resolution, resolution, 3], [6, 0], -16, 17, tf.int32), tf.float32)
        / 16
    )


# Sizes


def test_parameters_at_1024(full_generator: Generator, full_discriminator: Discriminator) -> None:
    assert count(full_generator.weights) == 23_079_115
    assert count(full_generator.stage_weights(1024, fading=False)) == 23_071_507
    assert count(full_discriminator.weights) == 23_087_249


@pytest.mark.parametrize(
    ("resolution", "generator_count", "inference_count", "discriminator_count"),
    [
        (32, 20_719_628, 20_715_011, 20_726_785),
        (128, 22_933_394, 22_926_467, 22_941_313),
        (256, 23_044_309, 23_036_995, 23_052_353),
    ],
)
def test_parameters_of_smaller_networks(
    resolution: int, generator_count: int, inference_count: int, discriminator_count: int
) -> None:
    config = NetworkConfig(resolution)
    generator = Generator(config)
    assert count(generator.weights) == generator_count
    assert count(generator.stage_weights(resolution, fading=False)) == inference_count
    assert count(Discriminator(config).weights) == discriminator_count


@pytest.mark.parametrize(
    ("resolution", "fading", "faces", "blocks"),
    [
        (4, False, ["rgb_4x4"], ["4x4"]),
        (8, True, ["rgb_4x4", "rgb_8x8"], ["4x4", "8x8"]),
        (8, False, ["rgb_8x8"], ["4x4", "8x8"]),
        (16, True, ["rgb_8x8", "rgb_16x16"], ["16x16", "4x4", "8x8"]),
    ],
)
def test_the_weights_of_a_stage(
    generator: Generator,
    discriminator: Discriminator,
    resolution: int,
    fading: bool,
    faces: list[str],
    blocks: list[str],
) -> None:
    for network, face in ((generator, "to_"), (discriminator, "from_")):
        weights = network.stage_weights(resolution, fading)
        layers = {weight.path.split("/")[1] for weight in weights}
        assert layers == {face + name for name in faces} | set(blocks)
        everything = [weight for weight in network.weights if weight.path.split("/")[1] in layers]
        assert {weight.path for weight in weights} == {weight.path for weight in everything}


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


def test_without_labels_only_the_direction_of_a_latent_matters(generator: Generator) -> None:
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


@pytest.mark.parametrize("compute", COMPUTE, ids=str)
@pytest.mark.parametrize("resolution", [8, 16])
def test_at_alpha_zero_a_generator_shows_the_smaller_ones_images(resolution: int, compute: dict[str, Any]) -> None:
    generator, z = small_generator(**compute), latents(3)
    faded = generator(z, resolution=resolution, alpha=tf.constant(0.0))
    np.testing.assert_allclose(faded, upscale2(generator(z, resolution=resolution // 2)), atol=1e-6)


@pytest.mark.parametrize("compute", COMPUTE, ids=str)
@pytest.mark.parametrize("resolution", [8, 16])
def test_at_alpha_zero_a_discriminator_judges_downscaled_images(resolution: int, compute: dict[str, Any]) -> None:
    discriminator, x = small_discriminator(**compute), images(4, resolution)
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


# Fused


def generated(generator: Generator, resolution: int, alpha: float | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Images, and gradients of a curved function of them by the weights of the stage."""
    with tf.GradientTape() as tape:
        made = generator(latents(4), resolution=resolution, alpha=alpha)
        value = tf.reduce_mean(tf.sin(made))
    return made, tape.gradient(value, generator.stage_weights(resolution, alpha is not None))


def judged(discriminator: Discriminator, resolution: int, alpha: float | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Scores, and gradients by the weights of the stage: of the mean score, and of its slope along the pixels."""
    x = images(4, resolution)
    with tf.GradientTape() as tape:
        with tf.GradientTape() as by_pixels:
            by_pixels.watch(x)
            scores, _ = discriminator(x, resolution=resolution, alpha=alpha)
        slopes = by_pixels.gradient(scores, x)
        value = tf.reduce_mean(scores) + tf.reduce_mean(tf.norm(slopes, axis=[1, 2]))
    return scores, tape.gradient(value, discriminator.stage_weights(resolution, alpha is not None))


def assert_same(
    found: tuple[tf.Tensor, list[tf.Tensor]], expected: tuple[tf.Tensor, list[tf.Tensor]], within: float
) -> None:
    """Outputs and gradients, each to a share of the largest expected value."""
    for a, b in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=within * np.abs(b).max())


@pytest.mark.parametrize(("resolution", "alpha"), [(8, None), (16, 0.25), (16, None)])
def test_fused_or_not_a_generator_is_the_same_function(resolution: int, alpha: float | None) -> None:
    fused, not_fused = (generated(small_generator(fused=fused), resolution, alpha) for fused in (True, False))
    assert_same(fused, not_fused, within=1e-5)


@pytest.mark.parametrize(("resolution", "alpha"), [(8, None), (16, 0.25), (16, None)])
def test_fused_or_not_a_discriminator_is_the_same_function(resolution: int, alpha: float | None) -> None:
    fused, not_fused = (judged(small_discriminator(fused=fused), resolution, alpha) for fused in (True, False))
    assert_same(fused, not_fused, within=1e-5)


def test_pooling_after_the_activation_is_another_discriminator() -> None:
    before, after = small_discriminator(), small_discriminator(POST_ACT)
    assert count(before.weights) == count(after.weights)
    x = images(4, 16)
    difference = np.abs(before(x, resolution=16)[0] - after(x, resolution=16)[0])
    assert difference.min() > 0.01
    np.testing.assert_array_equal(*(d(images(4, 4), resolution=4)[0] for d in (before, after)))  # nothing to pool


def test_pooling_after_the_activation_cannot_be_fused() -> None:
    fused, not_fused = (judged(small_discriminator(POST_ACT, fused=fused), 16, None) for fused in (True, False))
    assert_same(fused, not_fused, within=0)


# bfloat16


def assert_near(found: tuple[tf.Tensor, list[tf.Tensor]], expected: tuple[tf.Tensor, list[tf.Tensor]]) -> None:
    """The same up to the rounding of bfloat16, 0.004 a layer: outputs, and the directions of the gradients."""
    assert not np.array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=0.02 * np.abs(expected[0]).max())
    for a, b in zip(found[1], expected[1], strict=True):
        cosine = tf.reduce_sum(a * b) / (tf.norm(a) * tf.norm(b))
        assert float(cosine) > 0.98


def types(network: keras.layers.Layer, outputs: tf.Tensor, gradients: list[tf.Tensor]) -> set[tf.DType]:
    return {tensor.dtype for tensor in (outputs, *gradients, *(weight.value for weight in network.weights))}


@in_bfloat16
@pytest.mark.parametrize(("resolution", "alpha"), [(8, 0.25), (16, None)])
def test_a_bfloat16_generator_is_the_same_up_to_rounding(resolution: int, alpha: float | None) -> None:
    generator = small_generator(activations="bfloat16")
    found = generated(generator, resolution, alpha)
    assert types(generator, *found) == {tf.float32}
    assert_near(found, generated(small_generator(), resolution, alpha))


@in_bfloat16
@pytest.mark.parametrize(("resolution", "alpha"), [(8, 0.25), (16, None)])
def test_a_bfloat16_discriminator_is_the_same_up_to_rounding(resolution: int, alpha: float | None) -> None:
    discriminator = small_discriminator(activations="bfloat16")
    found = judged(discriminator, resolution, alpha)
    assert types(discriminator, *found) == {tf.float32}
    assert_near(found, judged(small_discriminator(), resolution, alpha))
