"""The weights that a new run begins with, instead of random ones: of a run, a version or a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import BadInputError
from progan_service.export.discriminator import read_discriminator
from progan_service.export.trained import TrainedGenerator
from progan_service.host.arrays import digest_of_arrays
from progan_service.sources.run import load_run, networks_of_run
from progan_service.sources.source import FILES, open_generator_file
from progan_service.sources.version import load_version
from progan_service.store.metadata import METADATA_FILE
from progan_service.training.config import InitConfig
from progan_service.training.run.directory import CONFIG_FILE

Arrays = Mapping[str, NDArray[np.generic]]


class InitialError(BadInputError):
    """The source holds no weights to begin with; the message names it and lists what is accepted."""


@dataclass(frozen=True)
class Initial:
    """Weights to begin with.

    arrays   by the path of the weight, such as "generator/4x4/dense/kernel"
    """

    config: InitConfig
    arrays: Arrays


def load_initial(source: str) -> Initial:
    """Load both networks and the averaged generator of a run, or the generator of a version or a weights file.

    A version that was exported with its discriminator gives this as well.

    Raises BadInputError: InitialError, or the error of the reader that the source belongs to.
    """
    path = Path(source)
    if (path / METADATA_FILE).is_file():
        return _of_version(source, path)
    if (path / CONFIG_FILE).is_file():
        return _initial(source, load_run(path), networks_of_run(path))
    if path.is_dir() or path.suffix not in FILES:
        raise InitialError(
            f"{source}: {_problem(source, path)}; give a run, STORE/MODEL/VERSION, or a file: a snapshot or other "
            "weights, NVIDIA's .pkl, PyTorch's .pth"
        )
    trained = open_generator_file(path)
    return _initial(source, trained, _twice(trained))


def _problem(source: str, path: Path) -> str:
    """Return why a source is none, as a part of a sentence."""
    if "://" in source:
        return "is an address, and a TF Hub module has no weights that a run could begin with"
    if path.is_dir():
        return f"neither a training run (no {CONFIG_FILE}) nor a version of a model (no {METADATA_FILE})"
    return "is no file of weights by its name" if path.exists() else "no such file or directory"


def _of_version(source: str, version: Path) -> Initial:
    """A version has its layers, of those to RGB only the one of its images, and perhaps the discriminator."""
    trained = load_version(version)
    only = f"/to_rgb_{trained.resolution}x{trained.resolution}/"
    arrays = {name: array for name, array in _twice(trained).items() if "/to_rgb_" not in name or only in name}
    return _initial(source, trained, {**arrays, **read_discriminator(version)})


def _twice(trained: TrainedGenerator) -> dict[str, NDArray[np.generic]]:
    """Both the generator and its average begin with the weights of this generator."""
    return {
        f"{network}/{weight.path.partition('/')[2]}": weight.numpy()
        for network in ("generator", "generator_ema")
        for weight in trained.generator.weights
    }


def _initial(source: str, trained: TrainedGenerator, arrays: Arrays) -> Initial:
    shown = trained.provenance.get("images_shown", 0)
    faded_in = trained.alpha == 1 or trained.resolution == 4
    resolution = trained.resolution if faded_in else trained.resolution // 2
    config = InitConfig(source, digest_of_arrays(arrays), resolution, shown if isinstance(shown, int) else 0)
    return Initial(config, arrays)
