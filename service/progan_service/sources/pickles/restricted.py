"""Unpickling without running anything: rules, and stand-ins for all names that a pickle may use.

A pickle is a program. Here it may use only the instructions that data needs, and only names that its reader knows. Each
name leads to a stand-in of this program, so that even arrays are made here, of bytes and a shape that were checked.
`process.py` gives the reader no more memory, time and disk than an honest file needs.
"""

import io
import math
import pickle
import pickletools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A file of the paper's largest networks takes some 10,000 instructions.
MAX_INSTRUCTIONS = 100_000
MAX_SIDE = 2**20
MAX_TEXT = 100

Plain = str | int | float | bool | None
StandIns = Mapping[tuple[str, str], Callable[..., Any]]  # by module and name


class RefusedPickleError(Exception):
    """A file breaks a rule. The message names the rule; the caller adds the name of the file."""


# fmt: off
_INSTRUCTIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "POP",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS",
    "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "OBJ", "BUILD",
}
# fmt: on


def unpickle(data: bytes, stand_ins: StandIns, unknown: str) -> Any:
    """Return the content of a pickle, which must be all of the data.

    stand_ins   what the names lead to that the pickle may use, beside those of NumPy
    unknown     what is said of any other name
    """
    if not data:
        raise RefusedPickleError("is empty")
    stream = io.BytesIO(data)
    content = unpickle_next(stream, stand_ins, unknown)
    if stream.tell() != len(data):
        raise RefusedPickleError(f"goes on for {len(data) - stream.tell()} bytes after its end")
    return content


def unpickle_next(
    stream: io.BytesIO, stand_ins: StandIns, unknown: str, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return the content of the pickle that begins here, and leave the stream after it.

    persistent   returns the object that is kept elsewhere under a name of any kind; without it there are none
    """
    start = stream.tell()
    _check_instructions(stream, _INSTRUCTIONS | ({"BINPERSID"} if persistent else set()))
    stream.seek(start)
    with refusing("is damaged"):
        return _Unpickler(stream, _NUMPY | dict(stand_ins), unknown, persistent).load()


def _check_instructions(stream: io.BytesIO, known: set[str]) -> None:
    """Raise RefusedPickleError for a length that lies, or for an instruction that data does not need. Run nothing."""
    start = stream.read(12)
    stream.seek(-len(start), io.SEEK_CUR)
    if not start.startswith(pickle.PROTO):
        raise RefusedPickleError(f"is no binary pickle (it begins with {start!r})")
    with refusing("is damaged or cut short"):
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if instruction.name not in known:
                raise RefusedPickleError(f"holds the instruction {instruction.name}, which no network needs")
            if count == MAX_INSTRUCTIONS or (instruction.name == "LONG_BINPUT" and (argument or 0) >= MAX_INSTRUCTIONS):
                raise RefusedPickleError(f"holds more than {MAX_INSTRUCTIONS} instructions or objects")


@contextmanager
def refusing(problem: str) -> Iterator[None]:
    """Refuse data that leads the standard library to an error or a warning of any kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except (RefusedPickleError, MemoryError):
        raise
    except Exception as error:
        raise RefusedPickleError(f"{problem} ({shown(str(error))})") from error


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, stream: io.BytesIO, stand_ins: StandIns, unknown: str, persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(stream, encoding="latin1")
        self.stand_ins, self.unknown, self.persistent = stand_ins, unknown, persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.stand_ins:
            raise RefusedPickleError(f"asks for {shown(f'{module}.{name}')}, {self.unknown}")
        return self.stand_ins[module, name]

    def persistent_load(self, name: Any) -> Any:
        if self.persistent is None:
            raise RefusedPickleError("holds an object that is kept elsewhere")
        return self.persistent(name)


# Stand-ins for the names of NumPy


class StoredArray:
    """Stand-in for numpy.ndarray, empty until its bytes are known."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, number, fortran, content = state
        self.values = _array(content, number, shape, "F" if fortran else "C")


class _Number:
    """Stand-in for numpy.dtype: plain numbers only, never objects, texts or records."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise RefusedPickleError(f"holds an array of type {shown(code)}, not of plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, subtype, names, fields, *_ = state
        if order not in ("<", ">", "=", "|") or (subtype, names, fields) != (None, None, None):
            raise RefusedPickleError("holds an array of records, not of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


def _reconstruct(kind: Any, shape: Any, _: Any) -> StoredArray:
    if kind is not StoredArray or shape != (0,):
        raise RefusedPickleError("holds an array that is not made the way numpy makes them")
    return StoredArray()


def _scalar(number: Any, content: Any) -> StoredArray:
    return _frombuffer(content, number, (), "C")


def _frombuffer(content: Any, number: Any, shape: Any, order: Any) -> StoredArray:
    array = StoredArray()
    array.values = _array(content, number, shape, order)
    return array


def _array(content: Any, number: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return the array of these bytes, without a copy if possible. Python 2 stores bytes as text."""
    if not isinstance(number, _Number) or order not in ("C", "F"):
        raise RefusedPickleError("holds an array that is not made the way numpy makes them")
    require_shape(shape)
    data = content.encode("latin1") if isinstance(content, str) else content
    if type(data) not in (bytes, bytearray) or len(data) != math.prod(shape) * number.dtype.itemsize:
        raise RefusedPickleError(f"holds an array of shape {shape} without the bytes for it")
    return np.frombuffer(data, number.dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand-in for _codecs.encode: protocol 2 of Python 3 stores bytes as Latin-1 text."""
    if type(text) is not str or encoding != "latin1":
        raise RefusedPickleError("holds an encoded text, which no network needs")
    return text.encode("latin1")


_NUMPY: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): StoredArray,
    ("numpy", "dtype"): _Number,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # the second one since NumPy 2
    _NUMPY[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NUMPY[f"{_core}.multiarray", "scalar"] = _scalar
    _NUMPY[f"{_core}.numeric", "_frombuffer"] = _frombuffer


# Plain data


def without_array(value: Any) -> Any:
    """Return a NumPy number as a Python number, and any other value unchanged."""
    if isinstance(value, StoredArray) and value.values is not None and value.values.ndim == 0:
        return value.values.item()
    return value


def require_shape(shape: Any) -> None:
    if type(shape) is not tuple or len(shape) > 4 or not all(type(n) is int and 0 <= n <= MAX_SIDE for n in shape):
        raise RefusedPickleError(f"holds an array with more than 4 sides, or one longer than {MAX_SIDE}")


def require_text(text: Any) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT or not text.isascii() or not text.isprintable():
        raise RefusedPickleError(f"holds a name that is no text of 1 to {MAX_TEXT} plain characters")


def is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, int):
        return abs(value) < 2**53
    return value is None or (isinstance(value, float) and math.isfinite(value))


def shown(text: str) -> str:
    """Return foreign text as ASCII, cut to the length that fits in a message."""
    return ascii(text)[1:-1][:MAX_TEXT]
