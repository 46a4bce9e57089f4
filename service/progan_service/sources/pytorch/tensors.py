"""Stand-ins for the names that a pickle of PyTorch uses: storages, and tensors, which are views of them.

A pickle can change the attributes of what it has made. Nothing here lets it: a tensor stays within its storage.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from progan_service.sources.pickles.process import MAX_FILE_BYTES
from progan_service.sources.pickles.restricted import (
    RefusedPickleError,
    StandIns,
    require_shape,
    require_text,
    shown,
)

Content = Callable[[str], bytes]  # of the storage with this key


class _Unchangeable:
    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("changes an object after it is made, which no tensor needs")


class _Kind(_Unchangeable):
    """Stand-in for a class of storages: the type of its numbers."""

    def __init__(self, number: str) -> None:
        self.number = np.dtype(number)

    def __call__(self, *_: Any) -> Any:
        raise RefusedPickleError("holds a storage within its pickle, which no tensor needs")


class Storage(_Unchangeable):
    """Numbers in a row: their type, how many they are, and how to get their bytes once the pickle is read."""

    def __init__(self, number: np.dtype[Any], length: int, content: Callable[[], bytes]) -> None:
        self.number, self.length, self.content = number, length, content


class Storages:
    """The storages that a pickle names, by their keys."""

    def __init__(self, content: Content, *, little_endian: bool) -> None:
        self.content, self.order = content, "<" if little_endian else ">"
        self.by_key: dict[str, Storage] = {}

    def named(self, name: Any) -> Storage:
        """Return the storage of ('storage', class, key, device, length); the old format adds None."""
        if type(name) is tuple and name[:1] == ("module",):
            raise RefusedPickleError("holds a whole module, not plain weights; save the state_dict() of the generator")
        if type(name) is not tuple or len(name) not in (5, 6) or not isinstance(name[1], _Kind):
            raise RefusedPickleError("holds something other than tensors beside its pickle")
        _, kind, key, _, length = name[:5]
        require_text(key)
        if type(length) is not int or not 0 <= length <= MAX_FILE_BYTES or name[5:] not in ((), (None,)):
            raise RefusedPickleError("holds a storage that is not made the way PyTorch makes them")
        number = kind.number.newbyteorder(self.order)
        storage = self.by_key.setdefault(key, Storage(number, length, lambda: self.content(key)))
        if (storage.number, storage.length) != (number, length):
            raise RefusedPickleError("holds a storage under two descriptions")
        return storage


class Tensor(_Unchangeable):
    """A view of a storage, which may be of other type, place and shape than it should."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        if not isinstance(storage, Storage):
            raise RefusedPickleError("holds a tensor without a storage")
        require_shape(shape)
        if type(strides) is not tuple or len(strides) != len(shape):
            raise RefusedPickleError("holds a tensor with other strides than sides")
        if not all(type(number) is int and 0 <= number <= MAX_FILE_BYTES for number in (offset, *strides)):
            raise RefusedPickleError("holds a tensor that goes beyond its storage")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, name: str) -> NDArray[np.float32]:
        """Return the numbers. The name is for errors."""
        number, content = self.storage.number, self.storage.content()
        if number.kind != "f" or number.itemsize != 4:
            raise RefusedPickleError(f"{shown(name)} is no tensor of float32 numbers")
        if len(content) != self.storage.length * number.itemsize:
            raise RefusedPickleError(f"{shown(name)} has not as many numbers as it says: the file is damaged")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape or last >= self.storage.length or np.prod(self.shape, dtype=object) > self.storage.length:
            raise RefusedPickleError(f"{shown(name)} is empty, or goes beyond its storage")
        values = np.frombuffer(content, number)[self.offset :]
        steps = [step * number.itemsize for step in self.strides]
        return as_strided(values, self.shape, steps, writeable=False).astype(np.float32)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Ordered(dict[Any, Any]):
    """Stand-in for collections.OrderedDict. Attributes, such as the `_metadata` of a state_dict, are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class Config(dict[Any, Any]):
    """Stand-in for the configuration of pytorch_GAN_zoo: its attributes as a dictionary."""

    def __setstate__(self, state: Mapping[Any, Any]) -> None:
        self.update(state)


STAND_INS: StandIns = {
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _Ordered,
    ("models.utils.config", "BaseConfig"): Config,
    ("torch", "FloatStorage"): _Kind("f4"),
    ("torch", "DoubleStorage"): _Kind("f8"),
    ("torch", "HalfStorage"): _Kind("f2"),
    ("torch", "BFloat16Storage"): _Kind("V2"),  # NumPy has no such type
    ("torch", "LongStorage"): _Kind("i8"),
    ("torch", "IntStorage"): _Kind("i4"),
    ("torch", "ShortStorage"): _Kind("i2"),
    ("torch", "CharStorage"): _Kind("i1"),
    ("torch", "ByteStorage"): _Kind("u1"),
    ("torch", "BoolStorage"): _Kind("b1"),
}
