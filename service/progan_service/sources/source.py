"""Open any source of a generator: which reader a path or address belongs to."""

from collections.abc import Callable
from pathlib import Path

from progan_service.errors import BadInputError
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import SUFFIXES, load_weights
from progan_service.sources.nvidia import network as nvidia
from progan_service.sources.pytorch.network import SUFFIXES as CHECKPOINTS
from progan_service.sources.pytorch.network import load_pytorch_checkpoint
from progan_service.sources.run import load_run
from progan_service.sources.tfhub.fetch import SAVED_MODEL_FILE, fetch, parse_pin
from progan_service.sources.tfhub.module import load_hub_module
from progan_service.sources.version import open_version
from progan_service.store.digests import sha256_of
from progan_service.store.metadata import METADATA_FILE
from progan_service.training.run.directory import CONFIG_FILE

FILES = (".pkl", *CHECKPOINTS, *SUFFIXES)  # one generator in one file
ARCHIVES = (".tar", ".tgz", ".tar.gz")


class SourceError(BadInputError):
    """The source holds no generator; the message names it and lists what is accepted."""


def open_source(
    source: str,
    staging: Path,
    *,
    sha256: str = "",
    value_range: str = "",
    progress: Callable[[str, int, int], None],
) -> TrainedGenerator | Exportable:
    """Load a generator from any kind of source.

    source        the run directory of `progan train`; a weights file, such as a snapshot; an NVIDIA pickle (.pkl);
                  a PyTorch checkpoint (.pth, .pt); a TF Hub module: its handle, an archive or an unpacked directory; a
                  version STORE/MODEL/VERSION, which was exported before
    staging       a directory for downloaded and unpacked files; keep it until the generator is exported
    sha256        the SHA-256 that a file must have; for a TF Hub module see `fetch`
    value_range   the range of a TF Hub module's images, "unit" (0..1) or "signed" (-1..1); "": find it out
    progress      called with (stage, bytes so far, bytes in all, or 0 while that is unknown)
    Raises BadInputError: SourceError, or the error of the reader that the source belongs to.
    """
    path = Path(source)
    is_version = (path / METADATA_FILE).is_file()
    if not is_version and ("://" in source or path.name.endswith(ARCHIVES) or (path / SAVED_MODEL_FILE).is_file()):
        return load_hub_module(fetch(source, staging, sha256=sha256, progress=progress), value_range)
    if value_range:
        raise SourceError(f"{path}: is no TF Hub module, and only these have a --value-range; leave it out")
    if is_version:
        return _open_version(path, sha256)
    return _open_run(path, sha256) if path.is_dir() else open_generator_file(path, sha256)


def _open_version(path: Path, sha256: str) -> TrainedGenerator | Exportable:
    if sha256:
        raise SourceError(f"{path}: is a version, which has the SHA-256 of each of its files; leave --sha256 out")
    return open_version(path)


def _open_run(path: Path, sha256: str) -> TrainedGenerator:
    if sha256:
        raise SourceError(f"{path}: a run goes on and has no SHA-256 of its own; give one of its snapshots")
    if not (path / CONFIG_FILE).is_file():
        raise SourceError(
            f"{path}: neither a training run (no {CONFIG_FILE}) nor a version of a model (no {METADATA_FILE}) nor an "
            f"unpacked TF Hub module (no {SAVED_MODEL_FILE})"
        )
    return load_run(path)


def open_generator_file(path: Path, sha256: str = "") -> TrainedGenerator:
    """Load the generator of a weights file, an NVIDIA pickle or a PyTorch checkpoint.

    sha256   the SHA-256 that the file must have; "": any
    Raises BadInputError: SourceError, or the error of the reader that the file belongs to.
    """
    if path.suffix not in FILES:
        problem = "is no kind of source by its name" if path.exists() else "no such file or directory"
        raise SourceError(
            f"{path}: {problem}; a source is a run directory, a .safetensors or .npz of weights, an NVIDIA .pkl, a "
            "PyTorch .pth or .pt, or a TF Hub module by its handle, .tar.gz or directory"
        )
    if sha256 and path.is_file():
        _check_content(path, parse_pin(sha256))
    if path.suffix in CHECKPOINTS:
        return load_pytorch_checkpoint(path)
    return nvidia.load_nvidia_pickle(path) if path.suffix == ".pkl" else load_weights(path)


def _check_content(path: Path, pin: str) -> None:
    found = sha256_of(path)
    if found != pin:
        raise SourceError(f"{path}: has the SHA-256 {found}, not {pin}; it is another file, or damaged")
