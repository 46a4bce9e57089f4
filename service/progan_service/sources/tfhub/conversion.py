"""A generator of ours that draws the images of a foreign one, from its weights.

The weights alone do not say how the images are made. So the generator is tried: it counts only if it draws the same
images of the same latents.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.checks import resolutions_up_to
from progan_service.errors import ConfigError
from progan_service.model.config import NetworkConfig, network_of
from progan_service.model.networks import Generator

MOST_DIFFERENCE = 1e-4  # between images, in 0..1, of a module and of the generator made from it
BATCH = 4

Array = NDArray[np.float32]
Draw = Callable[[tf.Tensor], tf.Tensor]  # latents float32 [N, L] -> images float32 [N, R, R, C]


class OtherNetworkError(Exception):
    """The module is no generator of ours; the message is the reason."""


@dataclass(frozen=True)
class _Conv:
    kernel: Array  # [height, width, in, out], N(0, 1)
    bias: Array  # [out]


def draw_all(draw: Draw, latents: Array) -> Array:
    """Return the images [N, R, R, C] of latents [N, L], drawn in batches."""
    batches = [draw(tf.constant(latents[start : start + BATCH])) for start in range(0, len(latents), BATCH)]
    return np.concatenate(batches)


def convert(weights: list[Array], latents: Array, images: Array, *, clipped: bool) -> tuple[Generator, float]:
    """Return a generator with these weights that draws the given images from the given latents.

    images    [N, R, R, C], linear, -1..1
    clipped   values outside of -1..1 were cut off; then the generator's images count with theirs cut off, too
    Returns the generator and the greatest difference of its images, in 0..1. Its last layer includes the gain and
    offset of the module's images. Its outputs for lower resolutions, which these images do not need, are zero.
    Raises OtherNetworkError when there is no such generator.
    """
    resolution, channels = images.shape[2:]
    trunk, to_rgb_kernels = _layers(weights, channels)
    shown = _unclipped(images) if clipped else np.ones(images.shape, bool)
    generator = Generator(_network(trunk, latents.shape[1], resolution, channels))
    _assign_trunk(generator, trunk)
    to_rgb, differences = generator.to_rgb[resolution], [np.inf]

    def draw(kernel: Array, bias: Array) -> Array:
        to_rgb.kernel.assign(kernel)
        to_rgb.bias.assign(bias)
        return draw_all(lambda latents: generator(latents, resolution=resolution), latents)

    for kernel in to_rgb_kernels:
        gain, offset = _fit_lines(draw(kernel, np.zeros(channels, np.float32)), images, shown)
        drawn = draw(gain * kernel, offset)
        differences.append(float(np.abs((drawn.clip(-1, 1) if clipped else drawn) - images).max()) / 2)
        if differences[-1] <= MOST_DIFFERENCE:
            return generator, differences[-1]
    raise OtherNetworkError(
        f"a generator with its weights draws images that differ by up to {min(differences):.2g}, "
        f"more than {MOST_DIFFERENCE:g}"
    )


def _layers(weights: list[Array], channels: int) -> tuple[list[_Conv], list[Array]]:
    """Return the convolutions of more than 1x1 in order, and the kernels of those that could be toRGB."""
    pairs = [(a, b) for a, b in pairwise(weights) if a.ndim == 4 and b.shape == a.shape[3:]]
    trunk = [_Conv(kernel, bias) for kernel, bias in pairs if kernel.shape[0] > 1]
    if not trunk:
        raise OtherNetworkError("it has no convolutions with a bias")
    to_rgb_kernels = [kernel for kernel, _ in pairs if kernel.shape == (1, 1, trunk[-1].kernel.shape[3], channels)]
    if not to_rgb_kernels:
        raise OtherNetworkError("it has no 1x1 convolution with a bias that could give the images")
    return trunk, to_rgb_kernels


def _unclipped(images: Array) -> NDArray[np.bool_]:
    """Return which values of images were not cut off. Raises OtherNetworkError when they are too few to fit a line."""
    shown = np.abs(images) < 0.999
    if shown.mean(axis=(0, 1, 2)).min() < 0.05:
        raise OtherNetworkError("nearly all of its values are cut off")
    return shown


def _fit_lines(x: Array, y: Array, shown: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return gain and offset [C] of the least-squares line through the shown points [N, R, R, C] of each channel."""

    def mean(points: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.mean(points, axis=(0, 1, 2), where=shown, dtype=np.float64))

    x_mean, y_mean = mean(x), mean(y)
    gain = mean((x - x_mean) * y) / np.maximum(mean(np.square(x - x_mean)), 1e-12)
    return gain.astype(np.float32), (y_mean - gain * x_mean).astype(np.float32)


def _network(trunk: list[_Conv], latent_size: int, resolution: int, channels: int) -> NetworkConfig:
    """Return the configuration whose generator has these convolutions (without toRGB)."""
    shapes, resolutions = [conv.kernel.shape for conv in trunk], resolutions_up_to(resolution)
    listed = ", ".join("x".join(map(str, shape)) for shape in shapes)
    features = dict(zip(resolutions, (shape[3] for shape in shapes[::2]), strict=False))
    if len(shapes) == 2 * len(resolutions):
        try:
            config = network_of(resolution, features, latent_size, channels=channels)
        except ConfigError as error:
            raise OtherNetworkError(f"{error}: {listed}") from error
        if shapes == _kernel_shapes(config):
            return config
    raise OtherNetworkError(f"its kernels are not those of a generator of this size: {listed}")


def _kernel_shapes(config: NetworkConfig) -> list[tuple[int, ...]]:
    """Return the kernel shapes of tensorflow/gan: its dense layer is a 4x4 convolution of one pixel padded by 3."""
    f = config.features
    blocks = [((3, 3, f(r // 2), f(r)), (3, 3, f(r), f(r))) for r in resolutions_up_to(config.resolution)[1:]]
    return [(4, 4, config.latents, f(4)), (3, 3, f(4), f(4)), *chain.from_iterable(blocks)]


def _assign_trunk(generator: Generator, trunk: list[_Conv]) -> None:
    block_4x4, first = generator.input_block, trunk[0]
    # Pixel [y, x] of the padded convolution meets the latents at [3 - y, 3 - x] of the kernel.
    dense = first.kernel[::-1, ::-1].transpose(2, 0, 1, 3)  # [latent, y, x, feature]
    block_4x4.dense.kernel.assign(dense.reshape(len(dense), -1))
    block_4x4.bias.assign(first.bias)
    grown = [(block.conv0, block.conv1) for block in generator.blocks.values()]
    for layer, conv in zip((block_4x4.conv, *chain.from_iterable(grown)), trunk[1:], strict=True):
        layer.kernel.assign(conv.kernel)
        layer.bias.assign(conv.bias)
    for layer in generator.to_rgb.values():
        layer.kernel.assign(tf.zeros_like(layer.kernel))
