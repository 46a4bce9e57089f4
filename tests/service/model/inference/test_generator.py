"""The served generator is the function of the trained one, and shows a latent the same image in every batch."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from processor import AVX512, in_bfloat16

from progan_service.evaluation.psnr import psnr_db
from progan_service.model.config import NetworkConfig
from progan_service.model.inference.generator import Arrangement, Block, InferenceGenerator, LayeredBlock
from progan_service.model.inference.minimal_filtering import DifferenceUpscaling, Winograd
from progan_service.model.inference.rows_first import RowsFirstBlock, RowUpscaling, RowWinograd
from progan_service.model.networks import Generator, GeneratorBlock
from progan_service.model.pixels import to_uint8

SMALL = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16)
GREY = NetworkConfig(resolution=8, channels=1, fmap_base=32, fmap_max=16)
LABELLED = NetworkConfig(resolution=8, label_size=3, fmap_base=32, fmap_max=16)
HALF_PRECISION = NetworkConfig(resolution=16, fmap_base=64, fmap_max=16, pixelnorm_epsilon=0.1)  # to be seen
BIAS_PER_PIXEL = NetworkConfig(resolution=8, fmap_base=32, fmap_max=16, first_bias="pixel")
PAPER = NetworkConfig(resolution=32)  # 512 features, whose sums show it when they are taken in another order

Network = Callable[[tf.Tensor], tf.Tensor]


def trained(config: NetworkConfig) -> Generator:
    """Always with the same weights. Biases begin at zero, where a forgotten one would not show: they are others."""
    keras.utils.set_random_seed(3)
    generator = Generator(config)
    for weight in generator.weights:
        if weight.path.endswith("bias"):
            weight.assign(keras.random.normal(weight.shape, stddev=0.3))
    return generator


def latents(rows: int, size: int = 16) -> tf.Tensor:
    return tf.random.stateless_normal([rows, size], [5, 0])


@pytest.fixture(scope="module")
def small() -> Generator:
    return trained(SMALL)


@pytest.fixture(scope="module")
def paper() -> Generator:
    return trained(PAPER)


# The same function


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_it_is_the_function_of_the_generator(small: Generator, resolution: int, alpha: float) -> None:
    """At every resolution, in the middle of a fade and after it; at 4x4 there is nothing to fade from."""
    found = InferenceGenerator(small, resolution, alpha)(latents(5))
    expected = small(latents(5), resolution=resolution, alpha=tf.constant(alpha))
    assert (found.shape, found.dtype) == ((5, resolution, resolution, 3), tf.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_it_is_the_function_of_a_grey_generator() -> None:
    grey = trained(GREY)
    found = InferenceGenerator(grey, 8)(latents(5))
    assert found.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(found, grey(latents(5), resolution=8), atol=1e-4)


def test_it_is_the_function_of_a_generator_with_a_bias_a_pixel() -> None:
    generator = trained(BIAS_PER_PIXEL)
    assert generator.input_block.bias.shape == (4, 4, 16)
    found = InferenceGenerator(generator, 8)(latents(5))
    np.testing.assert_allclose(found, generator(latents(5), resolution=8), atol=1e-4)


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_it_is_the_function_of_a_labelled_generator(alpha: float) -> None:
    labelled, labels = trained(LABELLED), tf.one_hot([0, 1, 2, 0, 1], 3)
    found = InferenceGenerator(labelled, 8, alpha)(latents(5), labels)
    np.testing.assert_allclose(found, labelled(latents(5), labels, resolution=8, alpha=tf.constant(alpha)), atol=1e-4)


def test_it_is_the_function_of_the_papers_generator(paper: Generator) -> None:
    z = latents(2, 512)
    np.testing.assert_allclose(InferenceGenerator(paper, 32)(z), paper(z, resolution=32), atol=1e-4)


def last_block(block: GeneratorBlock, arrangement: Arrangement, resolution: int, activations: str = "float32") -> Block:
    """One that takes features so arranged."""
    conv0, conv1 = (((layer.kernel * layer.scale).numpy(), layer.bias.numpy()) for layer in (block.conv0, block.conv1))
    if arrangement is Arrangement.ROWS_FIRST:
        return RowsFirstBlock(RowUpscaling(*conv0, activations), RowWinograd(*conv1, activations), block.epsilon)
    tile = {"float32": 4, "bfloat16": 2}[activations]
    return LayeredBlock(
        DifferenceUpscaling(*conv0, activations),
        Winograd(*conv1, tile, rows=resolution, activations=activations),
        block.epsilon,
    )


@pytest.mark.parametrize("arrangement", [Arrangement.ONE_BY_ONE, Arrangement.ROWS_FIRST], ids=lambda a: a.value)
@pytest.mark.parametrize("first", [8, 16])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
@pytest.mark.parametrize("network", [SMALL, HALF_PRECISION])
def test_it_is_the_same_function_with_other_blocks_at_its_end(
    network: NetworkConfig, arrangement: Arrangement, first: int, alpha: float
) -> None:
    generator = trained(network)
    direct = InferenceGenerator(generator, 16, alpha)
    last = {r: last_block(generator.blocks[r], arrangement, r) for r in (8, 16) if r >= first}
    changed = direct.with_last(last, arrangement)
    np.testing.assert_allclose(changed(latents(5)), direct(latents(5)), atol=1e-4)
    expected = generator(latents(5), resolution=16, alpha=tf.constant(alpha))
    np.testing.assert_allclose(direct(latents(5)), expected, atol=1e-4)


# bfloat16


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_in_bfloat16_images_are_float32_and_nearly_the_same(small: Generator, alpha: float) -> None:
    images = InferenceGenerator(small, 16, alpha)(latents(20))
    found = InferenceGenerator(small, 16, alpha, activations="bfloat16")(latents(20))
    assert found.dtype == tf.float32
    assert np.any(found != tf.cast(tf.cast(found, tf.bfloat16), tf.float32))
    assert 40 <= psnr_db(to_uint8(found).numpy(), to_uint8(images).numpy()) < 60


@in_bfloat16
def test_in_bfloat16_the_papers_generator_shows_nearly_the_same_images(paper: Generator) -> None:
    z = latents(2, 512)
    images = InferenceGenerator(paper, 32)(z)
    found = InferenceGenerator(paper, 32, activations="bfloat16")(z)
    assert 40 <= psnr_db(to_uint8(found).numpy(), to_uint8(images).numpy()) < 60


# The same image, whatever the size of its batch, its place in it and its neighbours: to the bit with AVX-512; up to the
# rounding of float32 on processors without it, where TensorFlow's convolutions add in another order in other batches


def assert_images_depend_on_their_latents_alone(network: Network) -> None:
    within = 0 if AVX512 else 1e-4
    z = latents(16, 512)
    alone = np.concatenate([network(z[i : i + 1]) for i in range(16)])
    for rows in (2, 3, 4, 8, 16):
        np.testing.assert_allclose(network(z[:rows]), alone[:rows], rtol=0, atol=within)
        np.testing.assert_allclose(network(z[::-1][:rows]), alone[::-1][:rows], rtol=0, atol=within)


@pytest.mark.parametrize("activations", ["float32", pytest.param("bfloat16", marks=in_bfloat16)])
def test_an_image_does_not_depend_on_its_batch(paper: Generator, activations: str) -> None:
    network = InferenceGenerator(paper, 32, activations=activations)
    assert_images_depend_on_their_latents_alone(tf.function(network, [tf.TensorSpec([None, 512])]))


@pytest.mark.parametrize("activations", ["float32", pytest.param("bfloat16", marks=in_bfloat16)])
@pytest.mark.parametrize("arrangement", [Arrangement.ONE_BY_ONE, Arrangement.ROWS_FIRST], ids=lambda a: a.value)
def test_an_image_does_not_depend_on_its_batch_however_the_last_blocks_take_it(
    paper: Generator, arrangement: Arrangement, activations: str
) -> None:
    last = {r: last_block(paper.blocks[r], arrangement, r, activations) for r in (8, 16, 32)}
    network = InferenceGenerator(paper, 32, activations=activations).with_last(last, arrangement)
    assert_images_depend_on_their_latents_alone(tf.function(network, [tf.TensorSpec([None, 512])]))


@pytest.mark.parametrize("resolution", [4, 8])
def test_a_small_image_does_not_depend_on_its_batch(paper: Generator, resolution: int) -> None:
    network = InferenceGenerator(paper, resolution)
    assert_images_depend_on_their_latents_alone(tf.function(network, [tf.TensorSpec([None, 512])]))
