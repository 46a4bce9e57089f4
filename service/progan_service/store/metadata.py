"""`progan.json`: the description of a version, written once when the version is published."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Self

from progan_service import formats
from progan_service.label_kind import LabelKind
from progan_service.license import tidy
from progan_service.store.digests import digest_of

METADATA_FILE = "progan.json"
FORMAT_VERSION = 1
FLOAT_SIGNATURE = "serving_default"
UINT8_SIGNATURE = "generate_uint8"
BFLOAT16_SIGNATURE = "generate_uint8_bfloat16"  # nearly the same images, by half-width arithmetic
ON_CPU = "_cpu"  # at the end of a signature: the same images, by the algorithms that are fastest on CPUs
DIFFERENTIABLE_SIGNATURE = "differentiable"
GRADIENT_SIGNATURE = "loss_gradient"  # distances of images to targets, and their gradients by latents and labels

MAX_METADATA_BYTES = 4 * 2**20  # of the file; the names of 20,000 labels take one
MAX_VALUES = 100_000  # in a provenance: it is converted whenever somebody asks for the model
MAX_GOLDEN = 256  # golden pictures: each is made anew before the version serves

_RANGES = {"latent_size": (1, 2**16), "resolution": (1, 2**14), "label_count": (0, 2**16)}
_LONGEST_SOURCE = 1000  # characters


@dataclass(frozen=True)
class ModelMetadata:
    """The content of `progan.json`.

    latent_size, resolution, channels   sizes of inputs and images
    label_count, label_names            0 and none without labels; names may be unknown
    label_kind                          what the labels are; classes for a version of an earlier release
    provenance                          where the version came from and how it was trained
    golden                              seed -> PNG of the seed's image, relative to the version
    files                               SHA-256 of every other file, by relative path
    signatures                          names of the signatures of the SavedModel
    bfloat16_psnr_db                    PSNR of BFLOAT16_SIGNATURE's golden images to those of UINT8_SIGNATURE; None
                                        without that signature
    algorithms                          by signature that ends with ON_CPU: the algorithm of each layer
    unknown                             keys that a newer release has written, kept when a version is published again
    """

    latent_size: int
    resolution: int
    channels: int
    label_count: int = 0
    label_names: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[str, ...] = (FLOAT_SIGNATURE, UINT8_SIGNATURE, DIFFERENTIABLE_SIGNATURE)
    format_version: int = FORMAT_VERSION
    bfloat16_psnr_db: float | None = None
    algorithms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    label_kind: LabelKind = "classes"
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise FormatError for a value that cannot be served, or that the wire cannot carry."""
        require, golden, psnr_db = formats.require, self.golden, self.bfloat16_psnr_db
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            require(least <= value <= most, name, value, f"a whole number from {least} to {most}")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        for number, label in enumerate(self.label_names):
            require(formats.is_unicode(label), f"label_names[{number}]", label, "Unicode text")
        names, count = len(self.label_names), self.label_count
        require(names in (0, count), "the number of label_names", names, f"label_count, {count}, or 0")
        for kind, files in (("files", self.files), ("golden", golden.values())):
            for file in files:
                require(_is_file_name(file), f"a file in {kind}", file, "the name of a file within the version")
        require(len(golden) <= MAX_GOLDEN, "the number of golden pictures", len(golden), f"at most {MAX_GOLDEN}")
        for seed in golden:
            require(_is_seed(seed), "a seed in golden", seed, "a whole number from 0 to 2^64 - 1")
        require(psnr_db is None or psnr_db >= 0, "bfloat16_psnr_db", psnr_db, "a number from 0 on, or null")
        values = sum(map(len, formats.values_in(self.provenance)))
        require(values <= MAX_VALUES, "the number of values in provenance", values, f"at most {MAX_VALUES}")

    @cached_property
    def digest(self) -> str:
        """The name of the version's content: "sha256:" and the hash over the names and hashes of its files."""
        return f"sha256:{digest_of(self.files)}"

    @cached_property
    def label_columns(self) -> Mapping[str, int]:
        """The column of each label by its name."""
        return {name: column for column, name in enumerate(self.label_names)}

    @property
    def can_invert(self) -> bool:
        """Whether the latents of images can be found."""
        return GRADIENT_SIGNATURE in self.signatures

    @property
    def source(self) -> str:
        """Where the version comes from, in one line; empty when the provenance does not say. Long texts are cut."""
        known = [self.provenance.get(name) for name in ("source", "origin")]
        line = " ".join(text[:_LONGEST_SOURCE] for text in known if isinstance(text, str))
        shown = self.provenance.get("images_shown")
        if not isinstance(shown, int | float) or not 0 <= shown < 2**53:
            return line
        return f"{line}, {shown / 1000:.1f} kimg"

    @property
    def license(self) -> str:
        """The licence that the provenance names, at most 64 KiB of text; empty when it names none.

        Versions of earlier releases have it as "licence" of the dataset.
        """
        dataset = self.provenance.get("dataset")
        earlier = dataset.get("licence") if isinstance(dataset, Mapping) else None
        found = self.provenance.get("license") or earlier
        return tidy(found) if isinstance(found, str) else ""

    def to_json(self) -> str:
        """Return the content of the file. It can be read back: what a server would refuse is not written.

        Raises FormatError.
        """
        values = asdict(self)
        content = json.dumps({**values.pop(formats.UNKNOWN), **values}, indent=2) + "\n"
        formats.check_size(content, MAX_METADATA_BYTES)
        self.from_json(content)
        return content

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return what a `progan.json` holds. Raises FormatError, which names the value and its rule."""
        document = formats.parse(content, FORMAT_VERSION)
        return cls(**formats.field_values(cls, document), unknown=formats.unknown_values(cls, document))


def _is_file_name(name: str) -> bool:
    """Tell whether a path is relative, stays in its directory, and can be the name of a file on every system."""
    path = PurePosixPath(name)
    inside = path.parts and not path.is_absolute() and ".." not in path.parts
    return bool(inside) and formats.is_unicode(name) and not any(ord(character) < 32 for character in name)


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20 and int(text) < 2**64
