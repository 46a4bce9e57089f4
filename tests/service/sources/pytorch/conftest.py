"""Stands in for PyTorch: writes files as `torch.save` does, in both of its formats."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}


@dataclass
class Storage:
    """The numbers of a tensor in a row."""

    numbers: NDArray[Any]

    def __reduce__(self) -> Any:
        raise TypeError("a storage is kept beside the pickle")


class Tensor:
    """A view of a storage: the given array, or one that shares its numbers."""

    def __init__(self, array: NDArray[Any]) -> None:
        whole = array if array.base is None else array.base
        self.storage = Storage(np.ravel(whole, order="K"))
        self.offset = (array.ctypes.data - self.storage.numbers.ctypes.data) // array.itemsize
        assert 0 <= self.offset < max(1, self.storage.numbers.size)
        self.shape, self.strides = array.shape, tuple(step // array.itemsize for step in array.strides)

    def __reduce__(self) -> Any:
        arguments = (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


class Parameter:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_parameter, (self.tensor, True, OrderedDict())


class BaseConfig:
    """The configuration of pytorch_GAN_zoo."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class _Pickler(pickle._Pickler):  # type: ignore[misc,name-defined]
    def __init__(self, stream: io.BytesIO, keys: dict[int, tuple[str, Storage]], end: tuple[Any, ...]) -> None:
        super().__init__(stream, 2)
        self.keys, self.end = keys, end

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, Storage):
            return None
        key, _ = self.keys.setdefault(id(thing.numbers), (str(len(self.keys)), thing))
        kind = getattr(sys.modules["torch"], KINDS[thing.numbers.dtype.str[1:]])
        return ("storage", kind, key, "cpu", thing.numbers.size, *self.end)


def _programs() -> dict[str, types.ModuleType]:
    """The modules whose names stand in a file. They are gone when it is read."""
    names = ("torch", "torch._utils", "models", "models.utils", "models.utils.config")
    programs = {name: types.ModuleType(name) for name in names}
    for name in KINDS.values():
        setattr(programs["torch"], name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(programs["torch._utils"], name, function)
    programs["models.utils.config"].BaseConfig = BaseConfig  # type: ignore[attr-defined]
    return programs


def _pickled(content: Any, end: tuple[Any, ...]) -> tuple[bytes, list[tuple[str, Storage]]]:
    stream, keys = io.BytesIO(), dict[int, tuple[str, Storage]]()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in _programs().items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(BaseConfig, "__module__", "models.utils.config")
        _Pickler(stream, keys, end).dump(content)
    return stream.getvalue(), list(keys.values())


def save(content: Any) -> bytes:
    """As PyTorch 1.6 and later."""
    data, storages = _pickled(content, ())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for key, storage in storages:
            archive.writestr(f"archive/data/{key}", storage.numbers.tobytes())
        archive.writestr("archive/version", b"3\n")
    return stream.getvalue()


def save_as_before(content: Any) -> bytes:
    """As PyTorch before 1.6."""
    data, storages = _pickled(content, (None,))
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, machine)]
    keys = pickle.dumps([key for key, _ in storages], 2)
    numbers = [storage.numbers.size.to_bytes(8, "little") + storage.numbers.tobytes() for _, storage in storages]
    return b"".join([*head, data, keys, *numbers])


@pytest.fixture(scope="session")
def torch() -> types.SimpleNamespace:
    return types.SimpleNamespace(
        Tensor=Tensor, Parameter=Parameter, BaseConfig=BaseConfig, save=save, save_as_before=save_as_before
    )
