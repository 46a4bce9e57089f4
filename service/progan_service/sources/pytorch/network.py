"""PyTorch's checkpoints as a source: generators of genforce and of pytorch_GAN_zoo, which are the paper's."""

from pathlib import Path

from progan_service.errors import BadInputError, ConfigError
from progan_service.export.trained import TrainedGenerator
from progan_service.sources.pickles.apart import read_apart
from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pytorch import checkpoint, gan_zoo, genforce
from progan_service.sources.pytorch.layouts import GAN_ZOO

SUFFIXES = (".pth", ".pt")


class PytorchCheckpointError(BadInputError):
    """A checkpoint cannot be read or holds another network; the message names the file and the reason."""


def load_pytorch_checkpoint(path: Path) -> TrainedGenerator:
    """Return the generator of a checkpoint, at the resolution that it had grown to.

    Another process reads the file, and runs nothing that it contains.

    Raises PytorchCheckpointError for a file that is missing, damaged, hostile, too large or of another network.
    """
    try:
        stored = read_apart(checkpoint.__name__, path)
        of_layout = gan_zoo.trained if stored.builder == GAN_ZOO else genforce.trained
        return of_layout(stored, path.name)
    except (RefusedPickleError, ConfigError) as error:
        raise PytorchCheckpointError(f"{path}: {error}") from error
