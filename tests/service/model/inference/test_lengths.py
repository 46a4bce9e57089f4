"""What the length of a latent does: nothing without labels; with labels it weighs the latent against the label."""

import keras
import numpy as np
from numpy.typing import NDArray

from progan_service.model.config import NetworkConfig
from progan_service.model.inference.generator import InferenceGenerator
from progan_service.model.networks import Generator

LATENTS = np.random.default_rng(0).standard_normal((4, 16), np.float32)


def images(latents: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Images of an untrained 8x8 network, always the same one."""
    keras.utils.set_random_seed(0)
    label_size = 0 if labels is None else labels.shape[1]
    generator = Generator(NetworkConfig(resolution=8, fmap_base=64, fmap_max=16, label_size=label_size))
    result: NDArray[np.float32] = InferenceGenerator(generator, 8)(latents, labels).numpy()
    return result


def test_without_labels_only_the_direction_of_a_latent_matters() -> None:
    np.testing.assert_allclose(images(LATENTS / 2, None), images(LATENTS, None), atol=1e-4)


def test_with_labels_a_shorter_latent_gives_more_weight_to_the_label() -> None:
    one, other = np.eye(3, dtype=np.float32)[[0] * 4], np.eye(3, dtype=np.float32)[[1] * 4]

    def differences(latents: NDArray[np.float32]) -> float:
        return float(np.abs(images(latents, one) - images(latents, other)).mean())

    assert np.abs(images(LATENTS / 2, one) - images(LATENTS, one)).max() > 0.1
    assert differences(LATENTS / 2) > 1.3 * differences(LATENTS)
