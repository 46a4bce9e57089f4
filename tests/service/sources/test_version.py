"""An exported version becomes a network again that can be trained further."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.sources.version import VersionError, load_version, open_version
from progan_service.store.store import ModelStore

NETWORK = {"resolution": 8, "fmap_base": 32, "fmap_max": 8, "latent_size": 6}


def trained(*, alpha: float = 1.0, label_size: int = 0, described: Mapping[str, Any] | None = None) -> TrainedGenerator:
    """A random generator of 8x8 images, whose biases are not zero."""
    tf.random.set_seed(1)
    generator = Generator(NetworkConfig(**NETWORK, label_size=label_size))
    for weight in generator.weights:
        weight.assign(tf.random.normal(weight.shape))
    provenance = {"source": "a test", "network": {**NETWORK, "label_size": label_size}}
    return TrainedGenerator(generator, 8, alpha, (), provenance if described is None else dict(described))


def exported(store: Path, generator: TrainedGenerator) -> Path:
    return store / "toy" / str(export_version(Exportable.of(generator), ModelStore(store), "toy"))


@pytest.mark.parametrize("label_size", [0, 3])
def test_the_weights_are_those_that_were_exported(tmp_path: Path, label_size: int) -> None:
    before = trained(label_size=label_size)
    after = load_version(exported(tmp_path, before))
    assert (after.resolution, after.alpha, after.generator.config) == (8, 1.0, before.generator.config)
    for weight, found in zip(before.generator.weights, after.generator.weights, strict=True):
        if "to_rgb_4x4" not in weight.path:  # images of 8x8 do not pass it
            np.testing.assert_allclose(found, weight, rtol=1e-4, atol=1e-5)


def test_a_version_of_a_run_that_had_not_ended_is_trained_up_to_its_resolution(tmp_path: Path) -> None:
    unfinished = {"source": "a test", "network": {**NETWORK, "resolution": 16}}
    found = load_version(exported(tmp_path, trained(described=unfinished)))
    assert (found.resolution, found.generator.config.resolution) == (8, 16)


@pytest.mark.parametrize(
    ("generator", "problem"),
    [
        ({"described": {"source": "a test"}}, "does not say which network it was made of"),
        (
            {"described": {"source": "", "network": {**NETWORK, "fmap_max": 4}}},
            "layer generator/4x4/dense has another shape",
        ),
        (
            {"described": {"source": "", "network": {**NETWORK, "pixelnorm_epsilon": 1.0}}},
            "makes other images than it does",
        ),
        ({"alpha": 0.5}, "has 12 arrays where its network has 10"),
    ],
)
def test_other_versions_are_refused_by_name(tmp_path: Path, generator: Mapping[str, Any], problem: str) -> None:
    version = exported(tmp_path, trained(**generator))
    with pytest.raises(VersionError, match=problem) as refusal:
        load_version(version)
    assert str(refusal.value).startswith(f"{version}: ")
    assert str(refusal.value).endswith("; give the run or the weights file that it was made of")


def test_a_version_is_exported_again_with_what_this_release_adds(tmp_path: Path) -> None:
    earlier = export_version(Exportable.of(trained(label_size=3)), ModelStore(tmp_path), "toy", invert=False)
    again = open_version(tmp_path / "toy" / str(earlier))
    assert isinstance(again, TrainedGenerator)
    assert ModelStore(tmp_path).guide("toy", export_version(Exportable.of(again), ModelStore(tmp_path), "toy"))


def test_a_version_of_an_unknown_network_is_exported_as_the_function_that_it_is(tmp_path: Path) -> None:
    version = exported(tmp_path, trained(label_size=3, described={"source": "a test"}))
    again = open_version(version)
    assert isinstance(again, Exportable)
    number = export_version(again, ModelStore(tmp_path), "toy")
    images = [
        tf.saved_model.load(str(path)).signatures["serving_default"](
            latents=tf.random.stateless_normal([4, 6], [0, 1]), labels=tf.one_hot([0, 1, 2, 0], 3)
        )["images"]
        for path in (version, tmp_path / "toy" / str(number))
    ]
    np.testing.assert_allclose(*images, atol=1e-5)
    assert ModelStore(tmp_path).guide("toy", number)
