"""Reader of PyTorch's checkpoints. It runs in a process of its own, see `pickles/process.py`.

A checkpoint is a pickle, mostly of dictionaries, with the numbers of its tensors beside it. Since PyTorch 1.6 it is a
zip (`data.pkl`, `data/0`, `data/1`, ...). Before, it was a row of pickles (magic number, version, machine, content,
keys of the storages), and then each storage: its length in 8 bytes, and its numbers.
"""

import hashlib
import io
import sys
import zipfile
from typing import Any

from progan_service.sources.pickles import process
from progan_service.sources.pickles.restricted import RefusedPickleError, refusing, shown, unpickle_next
from progan_service.sources.pickles.stored import StoredGenerator
from progan_service.sources.pytorch.layouts import described
from progan_service.sources.pytorch.tensors import STAND_INS, Storages

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_UNKNOWN = "which is no part of plain weights; it was not run. Save the state_dict() of the generator instead"


def read_generator(data: bytes) -> StoredGenerator:
    """Return the generator of a checkpoint, the averaged one if there are two.

    Raises RefusedPickleError, or MemoryError for data that grows while it is read.
    """
    if not data:
        raise RefusedPickleError("is empty")
    found = described(_of_zip(data) if data.startswith(b"PK") else _of_pickles(data))
    variables = {name: tensor.array(name) for name, tensor in found.pop("variables").items()}
    if sum(array.nbytes for array in variables.values()) > len(data):
        raise RefusedPickleError("holds arrays that take more room than the file itself")
    return StoredGenerator(**found, variables=variables, sha256=hashlib.sha256(data).hexdigest())


def _of_zip(data: bytes) -> Any:
    with refusing("is damaged or cut short"):
        archive = zipfile.ZipFile(io.BytesIO(data))
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedPickleError("is a zip, but no checkpoint of PyTorch: it holds no data.pkl, or several")
    if f"{roots[0]}constants.pkl" in names:
        raise RefusedPickleError("is a program of TorchScript; save the state_dict() of the generator instead")

    def member(name: str) -> bytes:
        with refusing("is damaged or cut short"):
            entry = archive.getinfo(f"{roots[0]}{name}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise RefusedPickleError(f"holds a compressed {shown(name)}, which no checkpoint does")
            return archive.read(entry)

    big_endian = f"{roots[0]}byteorder" in names and member("byteorder") == b"big"
    storages = Storages(lambda key: member(f"data/{key}"), little_endian=not big_endian)
    return unpickle_next(io.BytesIO(member("data.pkl")), STAND_INS, _UNKNOWN, storages.named)


def _of_pickles(data: bytes) -> Any:
    stream = io.BytesIO(data)
    contents: dict[str, bytes] = {}
    if unpickle_next(stream, {}, _UNKNOWN) != _MAGIC or unpickle_next(stream, {}, _UNKNOWN) != _VERSION:
        raise RefusedPickleError("is a pickle, but no checkpoint of PyTorch")
    machine = unpickle_next(stream, {}, _UNKNOWN)
    big_endian = type(machine) is dict and machine.get("little_endian") is False
    storages = Storages(contents.__getitem__, little_endian=not big_endian)
    content = unpickle_next(stream, STAND_INS, _UNKNOWN, storages.named)
    keys = unpickle_next(stream, {}, _UNKNOWN)
    if type(keys) is not list or sorted(map(str, keys)) != sorted(storages.by_key):
        raise RefusedPickleError("lists other storages than its tensors are in")
    for key in keys:
        storage, length = storages.by_key[key], int.from_bytes(stream.read(8), "big" if big_endian else "little")
        contents[key] = stream.read(length * storage.number.itemsize) if length == storage.length else b""
    return content


if __name__ == "__main__":
    sys.exit(process.run(read_generator, *sys.argv[1:]))
