"""Models to serve: the bundled one, and untrained ones of any size. Their speed does not depend on their weights."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig
from progan_service.serving.config import BatchingConfig
from progan_service.store.store import ModelStore

import_tensorflow()
import keras  # noqa: E402

from progan_service.export.exportable import Exportable  # noqa: E402
from progan_service.export.trained import TrainedGenerator  # noqa: E402
from progan_service.export.version import export_version  # noqa: E402
from progan_service.model.networks import Generator  # noqa: E402
from progan_service.serving.models.servable import Servable  # noqa: E402
from progan_service.serving.models.warm_up import warm_up  # noqa: E402

SMALL = NetworkConfig(32, fmap_base=1024, fmap_max=64)
FULL_SIZE = NetworkConfig(128)  # the paper's


@contextmanager
def untrained(network: NetworkConfig) -> Iterator[Path]:
    """Make a store with one model of random weights, the same in every run."""
    with tempfile.TemporaryDirectory() as directory:
        keras.utils.set_random_seed(0)
        trained = TrainedGenerator(Generator(network), network.resolution, 1.0, (), {"source": "benchmark"})
        export_version(Exportable.of(trained), ModelStore(Path(directory)), "untrained", invert=False)
        yield Path(directory)


def loaded(directory: Path) -> Servable:
    """Load the only model of a store, or its default, as a server does, and run each batch size once."""
    store = ModelStore(directory)
    name = store.default().model or store.models()[0]
    version = store.versions(name)[0]
    servable = Servable(store.path(name, version), store.metadata(name, version))
    warm_up(servable, BatchingConfig().allowed_batch_sizes)
    return servable


def bare_call(servable: Servable, images: int) -> Callable[[], NDArray[np.uint8]]:
    return partial(servable.generate, (latents(servable, images),))


def request_for(servable: Servable, images: int) -> bytes:
    """Return a serialized request of the same latents, so that clients spend no time on it."""
    vectors = latents(servable, images)
    matrix = pb.FloatMatrix(rows=images, columns=vectors.shape[1], values=vectors.tobytes())
    return pb.GenerateRequest(latents=pb.Latents(vectors=matrix)).SerializeToString()


def latents(servable: Servable, images: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((images, servable.metadata.latent_size), np.float32)
