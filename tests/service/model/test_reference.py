"""The networks give what the original implementation gives, for its own random weights, at and between resolutions.

The arrays hold stored weights in the original's names and layouts (biases are not zero), latents, labels, images and
scores; its discriminator judged exactly its generator's images, four in one minibatch-stddev group.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensor_cores import BFLOAT16_BITS, TF32, TF32_ATOL, TF32_BITS, cut

from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Discriminator, Generator

Array = NDArray[np.float32]

ATOL = TF32_ATOL if TF32 else 1e-5
LODS = [0, 0.5, 1, 1.75]

REFERENCES = {
    "reference_res32": NetworkConfig(resolution=32, fmap_base=256, fmap_max=32),
    "reference_res16_labels3": NetworkConfig(resolution=16, label_size=3, fmap_base=128, fmap_max=24),
}


def assign_original(network: keras.layers.Layer, original: dict[str, Array], resolution: int) -> None:
    """Give every weight of a network the original's array."""
    weights = {weight.path.split("/", 1)[1]: weight for weight in network.weights}
    for name, array in original.items():
        weights.pop(our_name(name, resolution)).assign(our_layout(name, array))
    assert not weights


def our_name(name: str, resolution: int) -> str:
    """8x8/Conv0_up/weight -> 8x8/conv0/kernel; ToRGB_lod1/bias -> to_rgb_8x8/bias in a network of 16x16."""
    layer, leaf = name.rsplit("/", 1)
    leaf = {"weight": "kernel", "bias": "bias"}[leaf]
    if "_lod" in layer:
        kind, lod = layer.split("_lod")
        side = resolution >> int(lod)
        return f"{kind.replace('RGB', '_rgb').lower()}_{side}x{side}/{leaf}"
    if name == "4x4/Dense/bias":
        return "4x4/bias"
    block, part = layer.split("/")
    return f"{block}/{part.split('_')[0].lower()}/{leaf}"


def our_layout(name: str, array: Array) -> Array:
    """Channels last; transposed convolutions become convolutions of an upscaled image."""
    if name == "4x4/Dense/weight":  # columns: channel, y, x
        inputs, channels = array.shape[0], array.shape[1] // 16
        return array.reshape(inputs, channels, 4, 4).transpose(0, 2, 3, 1).reshape(inputs, -1)
    if name == "4x4/Dense0/weight":  # rows: channel, y, x
        channels, outputs = array.shape[0] // 16, array.shape[1]
        return array.reshape(channels, 4, 4, outputs).transpose(1, 2, 0, 3).reshape(-1, outputs)
    if name.endswith("Conv0_up/weight"):  # [height, width, out, in], spatially flipped
        return array[::-1, ::-1].transpose(0, 1, 3, 2)
    return array


def part(arrays: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@dataclass
class Reference:
    arrays: dict[str, Array]
    config: NetworkConfig
    generator: Generator
    discriminator: Discriminator


@pytest.fixture(scope="module", params=[(name, fused) for name in REFERENCES for fused in (True, False)], ids=str)
def reference(request: pytest.FixtureRequest) -> Reference:
    name, fused = request.param
    config = REFERENCES[name]
    with np.load(Path(__file__).parent / "reference" / f"{name}.npz") as file:
        arrays = dict(file)
    generator, discriminator = Generator(config, fused=fused), Discriminator(config, fused=fused)
    for network, prefix in ((generator, "Gs:"), (discriminator, "D:")):
        original = part(arrays, prefix)
        original.pop("lod", None)
        assign_original(network, original, config.resolution)
    return Reference(arrays, config, generator, discriminator)


@pytest.mark.golden
@pytest.mark.parametrize("lod", LODS)
def test_the_same_images(reference: Reference, lod: float) -> None:
    resolution, alpha = at(lod, reference.config)
    latents, labels = reference.arrays["latents"], reference.arrays["labels"]
    images = reference.generator(latents, labels, resolution=resolution, alpha=alpha)
    np.testing.assert_allclose(images, original_images(reference, lod), atol=ATOL)


@pytest.mark.golden
@pytest.mark.parametrize("lod", LODS)
def test_the_same_scores_and_label_logits(reference: Reference, lod: float) -> None:
    resolution, alpha = at(lod, reference.config)
    scores, labels = reference.discriminator(original_images(reference, lod), resolution=resolution, alpha=alpha)
    np.testing.assert_allclose(scores, reference.arrays[f"scores_lod{lod}"][:, 0], atol=ATOL)
    np.testing.assert_allclose(labels, reference.arrays[f"dlabels_lod{lod}"], atol=ATOL)


@pytest.mark.parametrize("lod", [0, 0.5])
def test_the_tolerance_of_tf32_is_enough_for_it_and_too_little_for_bfloat16(reference: Reference, lod: float) -> None:
    resolution, alpha = at(lod, reference.config)
    latents, labels = reference.arrays["latents"], reference.arrays["labels"]
    generator = tf.function(lambda: reference.generator(latents, labels, resolution=resolution, alpha=alpha))
    images = original_images(reference, lod)
    discriminator = tf.function(lambda: reference.discriminator(images, resolution=resolution, alpha=alpha)[0])

    def differences(bits: int) -> tuple[float, float]:
        (made,), (scores,) = (cut(each.get_concrete_function(), bits)() for each in (generator, discriminator))
        return np.abs(made - images).max(), np.abs(scores - reference.arrays[f"scores_lod{lod}"][:, 0]).max()

    assert max(differences(TF32_BITS)) < TF32_ATOL < max(differences(BFLOAT16_BITS))


def at(lod: float, config: NetworkConfig) -> tuple[int, tf.Tensor | None]:
    """The original's level of detail as the resolution of the stage and its blend."""
    return config.resolution >> int(lod), None if lod == int(lod) else tf.constant(1 - (lod - int(lod)))


def original_images(reference: Reference, lod: float) -> tf.Tensor:
    """At the resolution of the stage, channels last; the original always upscales to the final one."""
    images = reference.arrays[f"images_lod{lod}"]
    step = 2 ** int(lod)
    return tf.constant(images[:, :, ::step, ::step].transpose(0, 2, 3, 1))
