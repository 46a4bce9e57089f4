"""`discriminator.npz` in a version: the discriminator that its generator was trained against, to train on with it.

It holds float32 arrays by the path of the weight, such as `discriminator/4x4/conv/kernel`. A server does not read it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import BadInputError
from progan_service.host.arrays import DamagedArrayError, read_archive
from progan_service.host.faults import named

DISCRIMINATOR_FILE = "discriminator.npz"
MAX_BYTES = 2**30  # the paper's largest discriminator takes 92 MB
_NETWORK = "discriminator/"

Arrays = Mapping[str, NDArray[np.generic]]


class DiscriminatorError(BadInputError):
    """A version's discriminator cannot be read; the message names the file and the reason."""


def write_discriminator(version: Path, networks: Arrays) -> None:
    """Write the weights of the discriminator among those of several networks."""
    np.savez(version / DISCRIMINATOR_FILE, allow_pickle=False, **_of_discriminator(networks))


def read_discriminator(version: Path) -> Arrays:
    """Return the weights of a version's discriminator by their paths; none if it has no discriminator.

    Raises DiscriminatorError for a damaged file, FileError for one that cannot be read.
    """
    path = version / DISCRIMINATOR_FILE
    if not path.exists():
        return {}
    try:
        with named(path):
            return _of_discriminator(read_archive(path, MAX_BYTES))
    except DamagedArrayError as error:
        raise DiscriminatorError(f"{path}: {error}") from error


def _of_discriminator(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    return {name: array for name, array in arrays.items() if name.startswith(_NETWORK)}
