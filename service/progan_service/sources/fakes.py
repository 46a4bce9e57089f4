"""Generated images to evaluate, from a training run or an exported version."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.errors import BadInputError
from progan_service.model.inference.generator import InferenceGenerator
from progan_service.model.pixels import to_uint8
from progan_service.serving.models.servable import Servable
from progan_service.sources.run import load_run
from progan_service.store.metadata import METADATA_FILE
from progan_service.store.store import ModelStore
from progan_service.training.run.directory import CONFIG_FILE

BATCH = 16

Draw = Callable[[NDArray[np.float32], NDArray[np.float32]], Iterator[NDArray[np.uint8]]]


class FakesError(BadInputError):
    """The directory is neither a run nor a version; the message names it."""


@dataclass(frozen=True)
class Fakes:
    """A generator to take images from.

    draw     latents [N, latent_size] and labels [N, label_size] -> batches of uint8 images [B, R, R, C]
    mirror   true if it was trained on mirrored images, too
    """

    resolution: int
    latent_size: int
    label_size: int
    mirror: bool
    draw: Draw

    @classmethod
    def open(cls, directory: Path) -> "Fakes":
        """Open the newest checkpoint of a run, or a version <store>/<model>/<version>.

        Raises FakesError for another directory; CheckpointError, ConfigError or ModelStoreError for a damaged one.
        """
        if (directory / CONFIG_FILE).is_file():
            return _of_run(directory)
        if (directory / METADATA_FILE).is_file():
            return _of_version(directory.resolve())
        raise FakesError(
            f"{directory}: neither a training run (no {CONFIG_FILE}) nor a version of a model (no {METADATA_FILE}); "
            "give a run, or STORE/MODEL/VERSION"
        )


def _of_run(directory: Path) -> Fakes:
    trained = load_run(directory)
    config = trained.generator.config
    images = InferenceGenerator(trained.generator, trained.resolution, trained.alpha)

    def draw(latents: NDArray[np.float32], labels: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(latents), BATCH):
            rows = slice(start, start + BATCH)
            yield to_uint8(images(tf.constant(latents[rows]), tf.constant(labels[rows]))).numpy()

    mirror = trained.provenance["training"]["mirror"]
    return Fakes(trained.resolution, config.latents, config.label_size, mirror, draw)


def _of_version(directory: Path) -> Fakes:
    store, name, version = ModelStore(directory.parent.parent), directory.parent.name, directory.name
    if version not in map(str, store.versions(name)):
        raise FakesError(f"{directory}: not in a model store; give STORE/MODEL/VERSION, VERSION a number from 1 on")
    metadata = store.metadata(name, int(version))
    servable = Servable(directory, metadata)

    def draw(latents: NDArray[np.float32], labels: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(latents), BATCH):
            rows = slice(start, start + BATCH)
            yield servable.generate((latents[rows], labels[rows]) if metadata.label_count else (latents[rows],))

    training: Any = metadata.provenance.get("training", {})
    mirror = isinstance(training, dict) and training.get("mirror") is True
    return Fakes(metadata.resolution, metadata.latent_size, metadata.label_count, mirror, draw)
