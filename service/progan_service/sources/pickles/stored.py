"""The generator of a pickle as plain data, in the form in which the process that reads it hands it over."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.sources.pickles.restricted import Plain, RefusedPickleError, is_plain, require_text

MAX_VARIABLES = 256  # a generator of the paper's largest network has 55


@dataclass(frozen=True)
class StoredGenerator:
    """The description and the variables of a generator, checked when made.

    name            of the network
    builder         the function or program that built it
    arguments       what it was built with
    variables       float32 arrays by the names that they are stored under
    discriminator   names of the variables of the discriminator in the file; empty without one
    label_names     one a label, or none when they are unknown
    sha256          SHA-256 of the file, in hexadecimal
    """

    name: str
    builder: str
    arguments: Mapping[str, Plain]
    variables: Mapping[str, NDArray[np.float32]]
    discriminator: tuple[str, ...]
    sha256: str
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.name, self.builder, self.sha256, *self.arguments, *self.discriminator):
            require_text(text)
        for name, value in self.arguments.items():
            if not is_plain(value):
                raise RefusedPickleError(f"{name} is neither a number nor a short text")
        if not all(isinstance(name, str) and name and is_plain(name) for name in self.label_names):
            raise RefusedPickleError("holds a name of a label that is no short text")
        if len(self.variables) > MAX_VARIABLES:
            raise RefusedPickleError(f"holds {len(self.variables)} variables, more than {MAX_VARIABLES}")
        for name, array in self.variables.items():
            require_text(name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                raise RefusedPickleError(f"{name} is no array of float32 numbers")

    def save(self, path: Path) -> None:
        """Write an .npz with one array for each variable and the rest as JSON text."""
        description = {
            "name": self.name,
            "builder": self.builder,
            "arguments": self.arguments,
            "variables": list(self.variables),
            "discriminator": self.discriminator,
            "label_names": self.label_names,
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
            for name in ("discriminator", "label_names"):
                description[name] = tuple(description[name])
            return cls(**description, variables=arrays)
        except Exception as error:  # foreign content leads the readers to errors of many kinds
            raise RefusedPickleError(f"was read, but what the reader made of it is not usable ({error})") from error
