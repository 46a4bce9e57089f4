"""A trained generator, the network with its weights and what is known of it, and the file that it travels in.

A weights file is a `.safetensors` or an `.npz`; neither can carry code. It holds the weights as float32 arrays by layer
path, such as `4x4/dense/kernel`, and one JSON object named `progan` (an entry of the metadata of a .safetensors, a text
array of an .npz):

    format_version   1
    network          the fields of NetworkConfig
    resolution, alpha, label_names, provenance   those of TrainedGenerator
"""

import json
import reprlib
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, get_type_hints

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from progan_service.checks import resolutions_up_to
from progan_service.errors import BadInputError
from progan_service.export.trained import TrainedGenerator
from progan_service.host.files import replaced
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.store.digests import sha256_of

FORMAT_VERSION = 1
SUFFIXES = (".safetensors", ".npz")
MAX_BYTES = 4 * 2**30  # the paper's largest generator takes 92 MB

_ENTRY = "progan"
_PARTS = ("network", "resolution", "alpha", "label_names", "provenance")
_FIRST = "4x4/dense/kernel"
_KINDS = {int: "a whole number", str: "text"}
_ORIGIN = ("weights_file", "weights_sha256", "weights_made_from")

Arrays = dict[str, NDArray[Any]]


class WeightsError(BadInputError):
    """A weights file that cannot be read, or does not hold a generator; the message names the file and the reason."""


def check_weights_name(path: Path) -> None:
    """Raises WeightsError for a file name without one of SUFFIXES."""
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: is no weights file by its name, which must end with {' or '.join(SUFFIXES)}")


def save_weights(trained: TrainedGenerator, path: Path) -> None:
    """Write a weights file in the format of its suffix, whole or not at all, over an earlier one; makes its directory.

    Raises WeightsError for another suffix, FileError when it cannot be written.
    """
    check_weights_name(path)
    arrays = {_layer_path(weight): weight.numpy() for weight in trained.generator.weights}
    write = _write_npz if path.suffix == ".npz" else _write_safetensors
    with replaced(path) as partial, partial.open("wb") as file:
        write(file, _description(trained), arrays)


def load_weights(path: Path) -> TrainedGenerator:
    """The generator that `save_weights` wrote, bit for bit.

    Its provenance is the stored one, with the file's name as "weights_file" and the SHA-256 of its content as
    "weights_sha256"; where the stored one has these already, they become "weights_made_from".
    Raises WeightsError for a file that is missing, damaged or anything but a whole, finite generator.
    """
    check_weights_name(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    read = _read_npz if path.suffix == ".npz" else _read_safetensors
    try:
        description, arrays = read(path)
    except Exception as error:  # a damaged header leads the readers into errors of many kinds
        reason = str(error) or type(error).__name__
        raise WeightsError(f"{path}: not a readable weights file ({reason})") from error
    try:
        parts = _parse(description)
        generator = _generator(parts.pop("network"), arrays)
    except BadInputError as error:
        raise WeightsError(f"{path}: {error}") from error
    return TrainedGenerator(generator, **parts | {"provenance": _with_origin(parts["provenance"], path)})


def _layer_path(weight: Any) -> str:
    """From "generator/4x4/dense/kernel" to "4x4/dense/kernel"."""
    return str(weight.path).split("/", 1)[1]


# Formats


def _write_safetensors(file: IO[bytes], description: str, arrays: Arrays) -> None:
    file.write(safetensors.numpy.save(arrays, {_ENTRY: description}))


def _write_npz(file: IO[bytes], description: str, arrays: Arrays) -> None:
    entries: dict[str, Any] = {_ENTRY: np.array(description), **arrays}
    np.savez(file, **entries)


def _read_safetensors(path: Path) -> tuple[str | None, Arrays]:
    _require_size(path.stat().st_size)
    arrays = {}
    with safetensors.safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            kind = file.get_slice(name).get_dtype()
            _require(kind == "F32", f"type of {name!r}", kind, "must be F32")
            arrays[name] = file.get_tensor(name)
        return (file.metadata() or {}).get(_ENTRY), arrays


def _read_npz(path: Path) -> tuple[str | None, Arrays]:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        _require_size(sum(entry.file_size for entry in archive.infolist()))
        file.seek(0)
        with np.load(file, allow_pickle=False) as entries:
            arrays = dict(entries)
    return str(arrays.pop(_ENTRY)) if _ENTRY in arrays else None, arrays


def _require_size(size: int) -> None:
    _require(size <= MAX_BYTES, "size in bytes", size, f"must be at most {MAX_BYTES}")


# What is known of the generator


def _description(trained: TrainedGenerator) -> str:
    parts = {name: getattr(trained, name) for name in _PARTS if name != "network"}
    return json.dumps({"format_version": FORMAT_VERSION, "network": asdict(trained.generator.config)} | parts)


def _parse(description: str | None) -> dict[str, Any]:
    """The parts of a description by their names, checked. Raises BadInputError for one that is none."""
    if description is None:
        raise WeightsError(
            f"holds no {_ENTRY!r}, which tells of what network the arrays are (a checkpoint has none: give its run)"
        )
    try:
        document = json.loads(description)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{_ENTRY!r} is no JSON: {error}") from error
    _require(isinstance(document, dict), _ENTRY, document, "must be an object")
    version = document.pop("format_version", None)
    _require(version == FORMAT_VERSION, "format_version", version, f"this release reads {FORMAT_VERSION}")
    _require_names(_ENTRY, document, _PARTS)
    network = _network(document["network"])
    resolution, alpha, label_names = (document[name] for name in ("resolution", "alpha", "label_names"))
    grown = resolutions_up_to(network.resolution)
    rule = f"must be one of {', '.join(map(str, grown))}"
    _require(type(resolution) is int and resolution in grown, "resolution", resolution, rule)
    _require(type(alpha) in (int, float) and 0 <= alpha <= 1, "alpha", alpha, "must be a number from 0 to 1")
    named = isinstance(label_names, list) and all(isinstance(name, str) for name in label_names)
    rule = f"must be a name for each of {network.label_size} labels, or none"
    _require(named and len(label_names) in (0, network.label_size), "label_names", label_names, rule)
    provenance = document["provenance"]
    told = isinstance(provenance, dict) and "source" in provenance
    _require(told, "provenance", provenance, "must be an object with source")
    return {**document, "network": network, "alpha": float(alpha), "label_names": tuple(label_names)}


def _network(values: Any) -> NetworkConfig:
    kinds = get_type_hints(NetworkConfig)
    _require_names("network", values, tuple(kinds))
    for name, value in values.items():
        _require(type(value) is kinds[name], f"network.{name}", value, f"must be {_KINDS[kinds[name]]}")
    return NetworkConfig(**values)


def _with_origin(provenance: dict[str, Any], path: Path) -> dict[str, Any]:
    origin = {"weights_file": path.name, "weights_sha256": sha256_of(path)}
    earlier = {name: provenance[name] for name in _ORIGIN if name in provenance}
    return provenance | origin | ({"weights_made_from": earlier} if earlier else {})


# What is in its weights


def _generator(network: NetworkConfig, arrays: Arrays) -> Generator:
    """A generator with these weights. Raises WeightsError unless they are all its own, and finite."""
    # No layer has more features than the first: so a network that the file cannot fill is refused before it is made.
    _require_shape(arrays, _FIRST, (network.latent_size + network.label_size, 16 * network.features(4)))
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


def _require_names(thing: str, values: Any, names: tuple[str, ...]) -> None:
    complete = isinstance(values, dict) and values.keys() == set(names)
    _require(complete, thing, values, f"must be an object with {', '.join(names)}")


def _require(holds: bool, thing: str, value: object, rule: str) -> None:
    if not holds:
        raise WeightsError(f"{thing} is {reprlib.repr(value)}: {rule}")
