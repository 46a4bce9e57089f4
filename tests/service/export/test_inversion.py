"""What an export adds so that the latents of images can be found."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.store.store import ModelStore


def exported(tmp_path: Path, exportable: Exportable, **options: Any) -> Any:
    """Export a generator and return its loaded module."""
    store = ModelStore(tmp_path)
    return tf.saved_model.load(str(store.path("toy", export_version(exportable, store, "toy", **options))))


def generator(**network: Any) -> Exportable:
    keras.utils.set_random_seed(1)
    return Exportable.of(
        TrainedGenerator(Generator(NetworkConfig(8, fmap_base=32, fmap_max=8, **network)), 8, 1.0, (), {})
    )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return exported(tmp_path_factory.mktemp("store"), generator())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return exported(tmp_path_factory.mktemp("store"), generator(label_size=3))


def z(seed: int, count: int = 4) -> tf.Tensor:
    return tf.constant(latents_from_seeds(seed_range(seed, count), 8))


def asked(loaded: Any, latents: tf.Tensor, targets: Any, coarseness: int = 0, **labels: Any) -> list[NDArray[Any]]:
    """Return loss and gradient, and the gradient by labels if there are any."""
    coarse = tf.fill([len(latents)], coarseness)
    found = loaded.signatures["loss_gradient"](latents=latents, targets=targets, coarseness=coarse, **labels)
    return [found[name].numpy() for name in ("loss", "gradient", "label_gradient") if name in found]


def image(loaded: Any, latents: tf.Tensor, **labels: Any) -> tf.Tensor:
    return loaded.signatures["generate_uint8"](latents=latents, **labels)["images"]


def test_an_image_is_nowhere_nearer_than_at_its_own_latent(loaded: Any) -> None:
    targets = image(loaded, z(0))
    here, _ = asked(loaded, z(0), targets)
    assert here.max() < 1e-5  # of rounding to 255 levels
    assert asked(loaded, z(100), targets)[0].min() > 1e-3


@pytest.mark.parametrize("coarseness", [0, 1])
def test_the_gradient_is_that_of_the_loss(loaded: Any, coarseness: int) -> None:
    targets, step = image(loaded, z(0)), 1e-3 * z(200)
    ahead, _ = asked(loaded, z(100) + step, targets, coarseness)
    behind, _ = asked(loaded, z(100) - step, targets, coarseness)
    _, gradient = asked(loaded, z(100), targets, coarseness)
    assert (gradient * step.numpy()).sum(axis=1) == pytest.approx((ahead - behind) / 2, rel=0.05, abs=1e-7)


def test_without_labels_the_gradient_is_at_right_angles_to_the_latent(loaded: Any) -> None:
    _, gradient = asked(loaded, z(100), image(loaded, z(0)))
    along = (gradient * z(100).numpy()).sum(axis=1) / np.linalg.norm(gradient, axis=1) / np.linalg.norm(z(100), axis=1)
    assert np.abs(along).max() < 1e-5


def test_coarse_losses_compare_means(loaded: Any) -> None:
    shown = loaded.signatures["differentiable"](latents=z(100))["images"].numpy()
    targets = np.full((4, 8, 8, 3), 128, np.uint8)
    means = (shown - 128 / 255).reshape(4, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert asked(loaded, z(100), targets, 1)[0] == pytest.approx((means**2).mean(axis=(1, 2, 3)), rel=1e-4)


def test_what_is_beyond_black_or_white_counts_as_black_or_white(loaded: Any) -> None:
    shown = loaded.signatures["differentiable"](latents=z(100))["images"].numpy()
    assert shown.max() > 1
    white = np.full((4, 8, 8, 3), 255, np.uint8)
    expected = ((np.minimum(shown, 1) - 1) ** 2).mean(axis=(1, 2, 3))
    assert asked(loaded, z(100), white)[0] == pytest.approx(expected, rel=1e-4)


def test_a_row_is_the_same_alone_and_among_others(loaded: Any) -> None:
    targets = image(loaded, z(0))
    for alone, among in zip(asked(loaded, z(100, 1), targets[:1]), asked(loaded, z(100), targets), strict=True):
        assert np.linalg.norm(alone[0] - among[0]) <= 1e-6 * np.linalg.norm(among[0])


def test_with_labels_there_is_a_gradient_by_them(labelled: Any) -> None:
    one, other = tf.one_hot([0] * 4, 3), tf.one_hot([2] * 4, 3)
    targets = image(labelled, z(0), labels=one)
    assert asked(labelled, z(0), targets, labels=one)[0].max() < 1e-5
    loss, _, gradient = asked(labelled, z(0), targets, labels=other)
    assert loss.min() > 1e-5
    assert (gradient[:, 0] < gradient[:, 2]).all()


def test_a_guide_lies_beside_it(loaded: Any, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    version = export_version(generator(), store, "toy")
    guide = store.guide("toy", version)
    assert guide is not None
    assert (guide.mean.shape, guide.matrix.shape, guide.metric.shape) == ((192,), (192, 8), (8, 8))
    assert guide.cosine > 0.8
    targets = image(loaded, z(0, 50)).numpy().reshape(50, 192) / np.float32(255)
    found = guide.encoded(targets)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(z(0, 50), axis=1)
    assert np.median((found * z(0, 50)).numpy().sum(axis=1) / lengths) > 0.8


def test_both_can_be_left_out(tmp_path: Path) -> None:
    assert "loss_gradient" not in exported(tmp_path, generator(), invert=False).signatures
    assert not list(tmp_path.rglob("invert.npz"))


def test_a_generator_without_a_gradient_has_neither(tmp_path: Path) -> None:
    def constant(latents: tf.Tensor, _: tf.Tensor | None) -> tf.Tensor:
        return tf.zeros([tf.shape(latents)[0], 4, 4, 1])

    assert "loss_gradient" not in exported(tmp_path, Exportable(constant, 8, 4, 1, provenance={})).signatures
    assert not list(tmp_path.rglob("invert.npz"))
