"""Reader of NVIDIA's pickled networks that turns them into plain data and never runs anything from the file.

    python -m progan_service.sources.nvidia.restricted_pickle IN OUT [CPU_SECONDS]

writes the generator of the pickle IN as the .npz OUT. It ends with REFUSED, and one sentence on stdout, when a rule is
broken; it is killed when it takes more of the processor than it may.

A pickle is a program. Here it may use only the instructions that data needs, and name only networks, arrays, numbers
and dictionaries; each name leads to a stand-in of this file, so that even arrays are made here, of bytes and a shape
that were checked. The process that does it gets no more memory, time and disk than an honest file of that size needs.
"""

import errno
import hashlib
import io
import json
import math
import pickle
import pickletools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REFUSED = 3  # exit code
NOT_WRITTEN = 4  # exit code, with the error's number on stdout
CPU_SECONDS = 60

# A file of the paper's largest networks takes 277 MB and some 10,000 instructions; its generator has 55 variables.
MAX_FILE_BYTES = 2**30
MAX_INSTRUCTIONS = 100_000
MAX_VARIABLES = 256
MAX_SIDE = 2**20
MAX_TEXT = 100

Plain = str | int | float | bool | None


class RefusedPickleError(Exception):
    """A file breaks a rule. The message names the rule; the caller adds the name of the file."""


@dataclass(frozen=True)
class StoredGenerator:
    """The description and the variables of a generator, checked when made.

    name, build_func_name, static_kwargs   the network's name, and the function and arguments that built it
    variables       float32 arrays by the names that they are stored under
    discriminator   names of the variables of the discriminator in the file; empty without one
    sha256          SHA-256 of the file, in hexadecimal
    """

    name: str
    build_func_name: str
    static_kwargs: Mapping[str, Plain]
    variables: Mapping[str, NDArray[np.float32]]
    discriminator: tuple[str, ...]
    sha256: str

    def __post_init__(self) -> None:
        for text in (self.name, self.build_func_name, self.sha256, *self.static_kwargs, *self.discriminator):
            _require_text(text)
        for name, value in self.static_kwargs.items():
            if not _is_plain(value):
                raise RefusedPickleError(f"static_kwargs {name} is neither a number nor a short text")
        if len(self.variables) > MAX_VARIABLES:
            raise RefusedPickleError(f"holds {len(self.variables)} variables, more than {MAX_VARIABLES}")
        for name, array in self.variables.items():
            _require_text(name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                raise RefusedPickleError(f"{name} is no array of float32 numbers")

    def save(self, path: Path) -> None:
        """Write an .npz with one array for each variable and the rest as JSON text."""
        description = {
            "name": self.name,
            "build_func_name": self.build_func_name,
            "static_kwargs": self.static_kwargs,
            "variables": list(self.variables),
            "discriminator": self.discriminator,
            "sha256": self.sha256,
        }
        with path.open("wb") as file:
            np.savez(file, *self.variables.values(), description=np.array(json.dumps(description)))

    @classmethod
    def load(cls, path: Path) -> "StoredGenerator":
        """Read a file of `save` and check it again. Raises RefusedPickleError for any other content."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                if sum(entry.file_size for entry in archive.zip.infolist()) > path.stat().st_size:
                    raise ValueError("larger than its file")
                description = json.loads(str(archive["description"]))
                names = description.pop("variables")
                arrays = {name: archive[f"arr_{index}"] for index, name in enumerate(names)}
            discriminator = tuple(description.pop("discriminator"))
            return cls(**description, variables=arrays, discriminator=discriminator)
        except Exception as error:  # foreign content leads the readers to errors of many kinds
            raise RefusedPickleError(f"was read, but what the reader made of it is not usable ({error})") from error


def read_generator(data: bytes) -> StoredGenerator:
    """Return the generator of a pickle: Gs of a tuple (G, D, Gs), or a single network.

    Raises RefusedPickleError, or MemoryError for data that grows while it is read.
    """
    networks = _networks(_unpickle(data))
    generator = networks[-1].described()
    discriminator = networks[1].described() if len(networks) == 3 else None
    variables = generator["variables"]
    if sum(array.nbytes for array in variables.values()) > len(data):
        raise RefusedPickleError("holds arrays that take more room than the file itself")
    return StoredGenerator(
        **generator,
        discriminator=tuple(discriminator["variables"]) if discriminator else (),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _networks(content: Any) -> tuple["_Network", ...]:
    networks = content if type(content) is tuple and len(content) == 3 else (content,)
    if not all(isinstance(network, _Network) for network in networks):
        raise RefusedPickleError("holds something other than three networks (G, D, Gs) or a single one")
    return networks


# The instructions of a pickle

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


def _unpickle(data: bytes) -> Any:
    _check_instructions(data)
    stream = io.BytesIO(data)
    with _refusing("is damaged"):
        content = _Unpickler(stream, encoding="latin1").load()
    if stream.tell() != len(data):
        raise RefusedPickleError(f"goes on for {len(data) - stream.tell()} bytes after its end")
    return content


def _check_instructions(data: bytes) -> None:
    """Raise RefusedPickleError for a length that lies, or for an instruction that data does not need. Run nothing."""
    if not data:
        raise RefusedPickleError("is empty")
    if not data.startswith(pickle.PROTO):
        raise RefusedPickleError(f"is no binary pickle (it begins with {data[:12]!r})")
    with _refusing("is damaged or cut short"):
        for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if instruction.name not in _INSTRUCTIONS:
                raise RefusedPickleError(f"holds the instruction {instruction.name}, which no network needs")
            if count == MAX_INSTRUCTIONS or (instruction.name == "LONG_BINPUT" and (argument or 0) >= MAX_INSTRUCTIONS):
                raise RefusedPickleError(f"holds more than {MAX_INSTRUCTIONS} instructions or objects")


@contextmanager
def _refusing(problem: str) -> Iterator[None]:
    """Refuse data that leads the standard library to an error or a warning of any kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except (RefusedPickleError, MemoryError):
        raise
    except Exception as error:
        raise RefusedPickleError(f"{problem} ({_shown(str(error))})") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise RefusedPickleError(
                f"asks for {_shown(f'{module}.{name}')}, which is no part of NVIDIA's ProGAN; it was not run"
            )
        return _STAND_INS[module, name]


# Stand-ins for the names in a pickle


class _Network:
    """Stand-in for tfutil.Network and network.Network. It keeps the description and drops the source code."""

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict:
            raise RefusedPickleError("holds a network without a description")
        if "param_values" in state or "build_func_spec" in state:
            raise RefusedPickleError(
                "holds networks of the original Theano code, whose parameters have no names here; "
                "load them with NVIDIA's TensorFlow code and save them there first"
            )
        if state.get("version") != 2:
            raise RefusedPickleError("holds a network whose format is not version 2")
        self.state = {name: state.get(name) for name in ("name", "build_func_name", "static_kwargs", "variables")}

    def described(self) -> dict[str, Any]:
        """Return the fields for StoredGenerator. Raises RefusedPickleError when they are missing."""
        if not hasattr(self, "state"):
            raise RefusedPickleError("holds a network without a description")
        kwargs = self.state["static_kwargs"]
        if type(kwargs) is not dict:
            raise RefusedPickleError("static_kwargs is no dictionary")
        return self.state | {
            "static_kwargs": {name: _without_array(value) for name, value in kwargs.items()},
            "variables": _variables(self.state["variables"]),
        }


class _Array:
    """Stand-in for numpy.ndarray, empty until its bytes are known."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, number, fortran, content = state
        self.values = _array(content, number, shape, "F" if fortran else "C")


class _Number:
    """Stand-in for numpy.dtype: plain numbers only, never objects, texts or records."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise RefusedPickleError(f"holds an array of type {_shown(code)}, not of plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        _, order, subtype, names, fields, *_ = state
        if order not in ("<", ">", "=", "|") or (subtype, names, fields) != (None, None, None):
            raise RefusedPickleError("holds an array of records, not of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


def _reconstruct(kind: Any, shape: Any, _: Any) -> _Array:
    if kind is not _Array or shape != (0,):
        raise RefusedPickleError("holds an array that is not made the way numpy makes them")
    return _Array()


def _scalar(number: Any, content: Any) -> _Array:
    return _frombuffer(content, number, (), "C")


def _frombuffer(content: Any, number: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.values = _array(content, number, shape, order)
    return array


def _array(content: Any, number: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return the array of these bytes, without a copy if possible. Python 2 stores bytes as text."""
    if not isinstance(number, _Number) or order not in ("C", "F"):
        raise RefusedPickleError("holds an array that is not made the way numpy makes them")
    if type(shape) is not tuple or len(shape) > 4 or not all(type(n) is int and 0 <= n <= MAX_SIDE for n in shape):
        raise RefusedPickleError(f"holds an array with more than 4 sides, or one longer than {MAX_SIDE}")
    data = content.encode("latin1") if isinstance(content, str) else content
    if type(data) not in (bytes, bytearray) or len(data) != math.prod(shape) * number.dtype.itemsize:
        raise RefusedPickleError(f"holds an array of shape {shape} without the bytes for it")
    return np.frombuffer(data, number.dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand-in for _codecs.encode: protocol 2 of Python 3 stores bytes as Latin-1 text."""
    if type(text) is not str or encoding != "latin1":
        raise RefusedPickleError("holds an encoded text, which no network needs")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("tfutil", "Network"): _Network,
    ("network", "Network"): _Network,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Number,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
    ("config", "EasyDict"): dict,
}
for _core in ("numpy.core", "numpy._core"):  # the second one since NumPy 2
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _frombuffer


# Plain data


def _variables(pairs: Any) -> dict[str, NDArray[Any]]:
    """Return [(name, array), ...] as a dictionary of arrays in native byte order."""
    if type(pairs) is not list:
        raise RefusedPickleError("variables is no list")
    variables: dict[str, NDArray[Any]] = {}
    for pair in pairs:
        name, array = pair if type(pair) is tuple and len(pair) == 2 else ("", None)
        _require_text(name)
        if name in variables:
            raise RefusedPickleError(f"holds the variable {name} twice")
        if not isinstance(array, _Array) or array.values is None:
            raise RefusedPickleError(f"{name} is no array")
        variables[name] = array.values.astype(array.values.dtype.newbyteorder("="), copy=False)
    return variables


def _without_array(value: Any) -> Any:
    """Return a NumPy number as a Python number, and any other value unchanged."""
    if isinstance(value, _Array) and value.values is not None and value.values.ndim == 0:
        return value.values.item()
    return value


def _require_text(text: Any) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_TEXT or not text.isascii() or not text.isprintable():
        raise RefusedPickleError(f"holds a name that is no text of 1 to {MAX_TEXT} plain characters")


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, int):
        return abs(value) < 2**53
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _shown(text: str) -> str:
    """Return foreign text as ASCII, cut to the length that fits in a message."""
    return ascii(text)[1:-1][:MAX_TEXT]


# The process


def main(source: str, result: str, cpu_seconds: str = str(CPU_SECONDS)) -> int:
    """Read SOURCE, write RESULT and return the exit code."""
    try:
        read_generator(_file(Path(source), int(cpu_seconds))).save(Path(result))
    except OSError as error:
        if error.errno == errno.EFBIG:  # more than a generator of such a file takes
            raise
        print(error.errno)
        return NOT_WRITTEN
    except RefusedPickleError as error:
        print(error)
        return REFUSED
    except MemoryError:
        print("takes more memory to read than a file of its size should")
        return REFUSED
    return 0


def _file(path: Path, cpu_seconds: int) -> bytes:
    """Limit this process to what a file of this size needs, and return the content of the file."""
    try:
        if not path.is_file():
            raise RefusedPickleError("is no file" if path.exists() else "no such file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise RefusedPickleError(f"takes {size} bytes, more than {MAX_FILE_BYTES}")
        _limit(size, cpu_seconds)
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise RefusedPickleError(f"cannot be read ({error.strerror})") from error


def _limit(file_bytes: int, cpu_seconds: int) -> None:
    """Limit memory to six copies of the file (protocol 2 takes five) and disk to one, without a core dump."""
    if sys.platform != "linux":
        return
    import resource

    for kind, limit in (
        (resource.RLIMIT_AS, 2**29 + 6 * file_bytes),
        (resource.RLIMIT_FSIZE, 2**20 + file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
