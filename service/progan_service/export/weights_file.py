"""Weights files: a trained generator, which is a network with its weights and a description, in one file.

A weights file is a `.safetensors` or an `.npz`; neither can carry code. It holds the weights as float32 arrays by layer
path, such as `4x4/dense/kernel`, and one JSON object named `progan` (an entry of the metadata of a .safetensors, a text
array of an .npz):

    format_version   1
    network          the fields of NetworkConfig
    resolution, alpha, label_names, label_kind, provenance   those of TrainedGenerator
    sha256           of the arrays and of all that; programs that change a file may leave it out

Keys of newer releases are ignored, and kept when the generator is written to another weights file.
"""

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from progan_service import formats
from progan_service.checks import resolutions_up_to
from progan_service.errors import BadInputError
from progan_service.export.trained import TrainedGenerator
from progan_service.host.arrays import DamagedArrayError, digest_of_arrays, read_archive
from progan_service.host.faults import named
from progan_service.host.files import replaced
from progan_service.label_kind import LabelKind
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.store.digests import sha256_of

FORMAT_VERSION = 1
SUFFIXES = (".safetensors", ".npz")
MAX_BYTES = 4 * 2**30  # the paper's largest generator takes 92 MB

_ENTRY = "progan"
_DIGEST = "sha256"
_FIRST = "4x4/dense/kernel"
_ORIGIN = ("weights_file", "weights_sha256", "weights_made_from")

Arrays = dict[str, NDArray[Any]]


class WeightsError(BadInputError):
    """A weights file that cannot be read, or does not hold a generator; the message names the file and the reason."""


def check_weights_name(path: Path) -> None:
    """Raises WeightsError for a file name without one of SUFFIXES."""
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: is no weights file by its name, which must end with {' or '.join(SUFFIXES)}")


def save_weights(trained: TrainedGenerator, path: Path) -> None:
    """Write a weights file in the format of its suffix, whole or not at all. An earlier file is replaced.

    Raises WeightsError for another suffix, FileError when it cannot be written.
    """
    check_weights_name(path)
    arrays = {_layer_path(weight): weight.numpy() for weight in trained.generator.weights}
    description = _description(trained, arrays)
    with replaced(path) as partial, partial.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, allow_pickle=False, **{_ENTRY: np.array(description)}, **arrays)
        else:
            file.write(safetensors.numpy.save(arrays, {_ENTRY: description}))


def load_weights(path: Path) -> TrainedGenerator:
    """Return the generator that `save_weights` wrote, bit for bit.

    Its provenance is the stored one, with the file's name as "weights_file" and the SHA-256 of its content as
    "weights_sha256". If the stored one has these already, they become "weights_made_from".
    Raises WeightsError for a file that is missing, damaged, of a newer release, or holds no whole, finite generator.
    """
    check_weights_name(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    read = _read_npz if path.suffix == ".npz" else _read_safetensors
    try:
        with named(path):
            description, arrays = read(path)
    except (DamagedArrayError, WeightsError) as error:
        raise WeightsError(f"{path}: not a readable weights file ({error})") from error
    try:
        network, values = _parse(description, arrays)
        generator = _generator(network, arrays)
    except BadInputError as error:
        raise WeightsError(f"{path}: {error}") from error
    return TrainedGenerator(generator, **values | {"provenance": _with_origin(values["provenance"], path)})


def _layer_path(weight: Any) -> str:
    """From "generator/4x4/dense/kernel" to "4x4/dense/kernel"."""
    return str(weight.path).split("/", 1)[1]


# Formats


def _read_safetensors(path: Path) -> tuple[str | None, Arrays]:
    """Return the description and the arrays. The library would map the file, and die if it is cut meanwhile."""
    _require_size(path.stat().st_size)
    content = path.read_bytes()
    try:
        parts = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        description = (header.get("__metadata__") or {}).get(_ENTRY)
    except Exception as error:  # a damaged header leads the library to errors of many kinds
        raise DamagedArrayError(str(error) or type(error).__name__) from error
    arrays = {}
    for name, part in parts:
        _require(part["dtype"] == "F32", f"type of {name!r}", part["dtype"], "must be F32")
        arrays[name] = np.ndarray(part["shape"], "<f4", part["data"])
    return description, arrays


def _read_npz(path: Path) -> tuple[str | None, Arrays]:
    arrays = read_archive(path, MAX_BYTES)
    return str(arrays.pop(_ENTRY)) if _ENTRY in arrays else None, arrays


def _require_size(size: int) -> None:
    _require(size <= MAX_BYTES, "size in bytes", size, f"must be at most {MAX_BYTES}")


# The description


@dataclass(frozen=True)
class _Description:
    """The JSON object of a weights file."""

    network: Mapping[str, Any]
    resolution: int
    alpha: float
    label_names: tuple[str, ...]
    provenance: Mapping[str, Any]
    label_kind: LabelKind = "classes"


def _description(trained: TrainedGenerator, arrays: Arrays) -> str:
    network = {**trained.unknown.get("network", {}), **asdict(trained.generator.config)}
    known = _Description(
        network, trained.resolution, trained.alpha, trained.label_names, trained.provenance, trained.label_kind
    )
    document = {**trained.unknown, formats.VERSION_KEY: FORMAT_VERSION, **asdict(known)}
    return json.dumps({**document, _DIGEST: _digest(document, arrays)})


def _digest(document: Mapping[str, Any], arrays: Arrays) -> str:
    return digest_of_arrays({**arrays, _ENTRY: np.array(json.dumps(document))})


def _parse(description: str | None, arrays: Arrays) -> tuple[NetworkConfig, dict[str, Any]]:
    """Return the network, and the other values of a TrainedGenerator. Raises BadInputError for no valid description."""
    if description is None:
        raise WeightsError(
            f"holds no {_ENTRY!r}, which describes the network of the arrays (a checkpoint has none: give its run)"
        )
    document = formats.parse(description, FORMAT_VERSION)
    digest = document.pop(_DIGEST, None)
    if digest is not None and digest != _digest(document, arrays):
        raise WeightsError(f"its content does not fit its {_DIGEST}: it is damaged; write or copy it again")
    values = formats.field_values(_Description, document)
    stored = values.pop("network")
    network = NetworkConfig(**formats.field_values(NetworkConfig, stored, "network"))
    _check_values(network, **values)
    unknown = formats.unknown_values(_Description, document)
    if added := formats.unknown_values(NetworkConfig, stored):
        unknown["network"] = added
    return network, {**values, "alpha": float(values["alpha"]), "unknown": unknown}


def _check_values(
    network: NetworkConfig,
    resolution: int,
    alpha: float,
    label_names: tuple[str, ...],
    provenance: Mapping[str, Any],
    **_: Any,
) -> None:
    grown = resolutions_up_to(network.resolution)
    _require(resolution in grown, "resolution", resolution, f"must be one of {', '.join(map(str, grown))}")
    _require(0 <= alpha <= 1, "alpha", alpha, "must be a number from 0 to 1")
    rule = f"must be a name for each of {network.label_size} labels, or none"
    _require(len(label_names) in (0, network.label_size), "label_names", list(label_names), rule)
    _require("source" in provenance, "provenance", provenance, "must be an object with source")


def _with_origin(provenance: dict[str, Any], path: Path) -> dict[str, Any]:
    origin = {"weights_file": path.name, "weights_sha256": sha256_of(path)}
    earlier = {name: provenance[name] for name in _ORIGIN if name in provenance}
    return provenance | origin | ({"weights_made_from": earlier} if earlier else {})


# Its weights


def _generator(network: NetworkConfig, arrays: Arrays) -> Generator:
    """Return a generator with these weights. Raises WeightsError unless they fit, are complete, and are finite."""
    # No layer has more features than the first: a network that the file cannot fill is refused before it is made.
    _require_shape(arrays, _FIRST, (network.latents + network.label_size, 16 * network.features(4)))
    generator = Generator(network)
    weights = {_layer_path(weight): weight for weight in generator.weights}
    for name in arrays:
        if name not in weights:
            raise WeightsError(f"holds {name!r}, for which the network has no place")
    for name, weight in weights.items():
        _require_shape(arrays, name, tuple(weight.shape))
        _require(arrays[name].dtype == np.float32, f"type of {name}", arrays[name].dtype.name, "must be float32")
        strange = arrays[name][~np.isfinite(arrays[name])]
        if strange.size:
            raise WeightsError(f"{name} holds {strange[0]}: all its values must be finite")
    for name, weight in weights.items():
        weight.assign(arrays[name])
    return generator


def _require_shape(arrays: Arrays, name: str, shape: tuple[int, ...]) -> None:
    if name not in arrays:
        raise WeightsError(f"holds no {name}, which the network needs")
    _require(arrays[name].shape == shape, f"shape of {name}", arrays[name].shape, f"the network needs {shape}")


def _require(holds: bool, thing: str, value: object, rule: str) -> None:
    if not holds:
        raise WeightsError(f"{thing} is {reprlib.repr(value)}: {rule}")
