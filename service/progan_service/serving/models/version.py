"""TODO"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

from PIL.PngImagePlugin import PngInfo

from progan_service.serving.batching.batcher import DynamicBatcher
from progan_service.serving.batching.queue import ONE_BY_ONE, BatchQueue
from progan_service.serving.files.encoding import text_chunks
from progan_service.serving.models.gate import Gate
from progan_service.store.metadata import ModelMetadata

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version that answers requests; each is inside `gate` until it has its last image.

    precision   of its arithmetic
    files       the rows that are to become files, wherever they are: for the device, on it, or for an encoder
    """

    name: str
    version: int
    metadata: ModelMetadata
    precision: str
    batcher: DynamicBatcher
    gate: Gate
    encode_queue: BatchQueue = field(default_factory=partial(BatchQueue, ONE_BY_ONE))

    @property
    def info(self) -> tuple[str, ...]:
        """The labels of its metric."""
        metadata = self.metadata
        return self.name, str(self.version), metadata.digest, str(metadata.resolution), self.precision

    @cached_property
    def imprint(self) -> PngInfo:
        """The texts in its PNG files: program, model, version, digest, source and licence."""
        texts = {
            "Software": "progan",
            "Model": f"{self.name} version {self.version}",
            "Digest": self.metadata.digest,
            "Source": self.metadata.source,
            "License": self.metadata.license,
        }
        return text_chunks({keyword: text for keyword, text in texts.items() if text})
