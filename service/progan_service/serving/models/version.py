"""A version in memory, as calls use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from progan_service.latents.inversion.guide import Guide
from progan_service.latents.inversion.search import Space
from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.queue import UNBOUNDED, BatchQueue
from progan_service.serving.models.gate import Gate
from progan_service.store.directions import Direction
from progan_service.store.metadata import ModelMetadata

_SEED_BYTES = 11  # the longest on the wire


@dataclass(frozen=True, eq=False)
class Inverting:
    """What finds the latents of images: where to begin, how to search, and the batches of gradients."""

    guide: Guide
    space: Space
    batcher: DynamicBatcher


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version that answers requests. Each call stays inside `gate` until it has its last image.

    name           of its model
    precision      "float32" or "bfloat16"
    memory_bytes   what it takes of the devices' memory, its largest batch included; on CPUs of the process's
    directions     along which latents can be edited, by name
    inverting      finds the latents of images; None for a version that was exported without that
    encode_queue   the rows that are to become files, wherever they are: before the device, on it, before an encoder, or
                   in one. Used in the event loop only.
    """

    name: str
    number: int
    metadata: ModelMetadata
    precision: str
    memory_bytes: int
    batcher: DynamicBatcher
    gate: Gate
    directions: Mapping[str, Direction] = field(default_factory=dict)
    inverting: Inverting | None = None
    encode_queue: BatchQueue = field(default_factory=partial(BatchQueue, UNBOUNDED))

    def close(self) -> None:
        """Refuse new work. What is queued or runs fails with Unavailable."""
        self.batcher.close()
        if self.inverting:
            self.inverting.batcher.close()

    @property
    def info(self) -> tuple[str, ...]:
        """Return the label values of the metric progan_model_info."""
        metadata = self.metadata
        return self.name, str(self.number), metadata.digest, str(metadata.resolution), self.precision

    @property
    def row_bytes(self) -> int:
        """Return the size of a latent and its labels in a request. A seed may take the place of a latent."""
        return 4 * self.metadata.latent_size + _SEED_BYTES + 4 * self.metadata.label_count

    @property
    def image_bytes(self) -> int:
        """Return the size of an image's pixels and its latent in a reply."""
        return self.metadata.resolution**2 * self.metadata.channels + 4 * self.metadata.latent_size

    @cached_property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """Return the keywords and texts for its PNG files: program, model version, source and license."""
        texts = (
            ("Software", "progan"),
            ("Model", f"{self.name} version {self.number}"),
            ("Digest", self.metadata.digest),
            ("Source", self.metadata.source),
            ("License", self.metadata.license),
        )
        return tuple((keyword, text) for keyword, text in texts if text)
