"""Reader of NVIDIA's pickled networks. It runs in a process of its own, see `pickles/process.py`."""

import hashlib
import sys
from typing import Any

from numpy.typing import NDArray

from progan_service.sources.pickles import process
from progan_service.sources.pickles.restricted import (
    RefusedPickleError,
    StandIns,
    StoredArray,
    require_text,
    unpickle,
    without_array,
)
from progan_service.sources.pickles.stored import StoredGenerator


def read_generator(data: bytes) -> StoredGenerator:
    """Return the generator of a pickle: Gs of a tuple (G, D, Gs), or a single network.

    Raises RefusedPickleError, or MemoryError for data that grows while it is read.
    """
    networks = _networks(unpickle(data, _STAND_INS, "which is no part of NVIDIA's ProGAN; it was not run"))
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
        return {
            "name": self.state["name"],
            "builder": self.state["build_func_name"],
            "arguments": {name: without_array(value) for name, value in kwargs.items()},
            "variables": _variables(self.state["variables"]),
        }


_STAND_INS: StandIns = {
    ("tfutil", "Network"): _Network,
    ("network", "Network"): _Network,
    ("collections", "OrderedDict"): dict,
    ("config", "EasyDict"): dict,
}


def _variables(pairs: Any) -> dict[str, NDArray[Any]]:
    """Return [(name, array), ...] as a dictionary of arrays in native byte order."""
    if type(pairs) is not list:
        raise RefusedPickleError("variables is no list")
    variables: dict[str, NDArray[Any]] = {}
    for pair in pairs:
        name, array = pair if type(pair) is tuple and len(pair) == 2 else ("", None)
        require_text(name)
        if name in variables:
            raise RefusedPickleError(f"holds the variable {name} twice")
        if not isinstance(array, StoredArray) or array.values is None:
            raise RefusedPickleError(f"{name} is no array")
        variables[name] = array.values.astype(array.values.dtype.newbyteorder("="), copy=False)
    return variables


if __name__ == "__main__":
    sys.exit(process.run(read_generator, *sys.argv[1:]))
