"""Generated images to evaluate: of a training run, a version, or a file of weights of any kind."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.errors import BadInputError
from progan_service.export.trained import TrainedGenerator
from progan_service.host.faults import named
from progan_service.label_kind import LabelKind
from progan_service.model.inference.generator import InferenceGenerator
from progan_service.model.pixels import to_uint8
from progan_service.serving.models.servable import Servable
from progan_service.sources.run import load_run
from progan_service.sources.source import FILES, open_generator_file
from progan_service.store.digests import sha256_of
from progan_service.store.metadata import METADATA_FILE
from progan_service.store.store import ModelStore
from progan_service.training.run.checkpoint import checkpoint_path
from progan_service.training.run.directory import CONFIG_FILE

BATCH = 16

Draw = Callable[[NDArray[np.float32], NDArray[np.float32]], Iterator[NDArray[np.uint8]]]


class FakesError(BadInputError):
    """The path holds no generator that can be measured; the message names it."""


@dataclass(frozen=True)
class Fakes:
    """A generator to take images from.

    digest   "sha256:" and the SHA-256 of what it is made of: the digest of a version, else that of the file of weights
    draw     latents [N, latent_size] and labels [N, label_size] -> batches of uint8 images [B, R, R, C]
    mirror   true if it was trained on mirrored images, too

    label_names   one a label, or none when they are unknown
    label_kind    what the labels are
    """

    digest: str
    resolution: int
    latent_size: int
    label_size: int
    mirror: bool
    draw: Draw
    label_names: tuple[str, ...] = ()
    label_kind: LabelKind = "classes"

    @classmethod
    def open(cls, path: Path) -> "Fakes":
        """Open a run at its newest checkpoint, a file of weights, or a version <store>/<model>/<version>.

        Raises FakesError for what is none of these; the BadInputError of its reader for what is damaged.
        """
        if (path / METADATA_FILE).is_file():
            return _of_version(path.resolve())
        if (path / CONFIG_FILE).is_file():
            trained = load_run(path)
            return _of_trained(trained, checkpoint_path(path / "checkpoints", trained.provenance["images_shown"]))
        if path.suffix in FILES and not path.is_dir():
            return _of_trained(open_generator_file(path), path)
        problem = "no such file or directory"
        if path.exists():
            problem = f"neither a training run (no {CONFIG_FILE}) nor a version of a model (no {METADATA_FILE})"
        raise FakesError(
            f"{path}: {problem}; "
            "give a run, STORE/MODEL/VERSION, or a file: a snapshot or other weights, NVIDIA's .pkl, PyTorch's .pth"
        )


def _of_trained(trained: TrainedGenerator, file: Path) -> Fakes:
    config = trained.generator.config
    images = InferenceGenerator(trained.generator, trained.resolution, trained.alpha)
    with named(file):
        digest = f"sha256:{sha256_of(file)}"

    def draw(latents: NDArray[np.float32], labels: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(latents), BATCH):
            rows = slice(start, start + BATCH)
            yield to_uint8(images(tf.constant(latents[rows]), tf.constant(labels[rows]))).numpy()

    mirror = _is_mirrored(trained.provenance)
    sizes = (trained.resolution, config.latents, config.label_size)
    return Fakes(digest, *sizes, mirror, draw, trained.label_names, trained.label_kind)


def _of_version(directory: Path) -> Fakes:
    store, name, version = ModelStore.of_version(directory)
    metadata = store.verify(name, version)  # figures are recorded by the digest of what was published
    servable = Servable(directory, metadata)

    def draw(latents: NDArray[np.float32], labels: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(latents), BATCH):
            rows = slice(start, start + BATCH)
            yield servable.generate((latents[rows], labels[rows]) if metadata.label_count else (latents[rows],))

    mirror = _is_mirrored(metadata.provenance)
    sizes = (metadata.resolution, metadata.latent_size, metadata.label_count)
    return Fakes(metadata.digest, *sizes, mirror, draw, metadata.label_names, metadata.label_kind)


def _is_mirrored(provenance: Mapping[str, Any]) -> bool:
    training = provenance.get("training")
    return isinstance(training, Mapping) and training.get("mirror") is True
