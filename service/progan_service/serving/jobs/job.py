"""TODO"""

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from progan_service.serving.batching.batcher import Generated
from progan_service.serving.batching.queue import Priority, Work
from progan_service.serving.files.encoding import Encoding, encode, text_bytes, text_chunks
from progan_service.serving.grpc.progan_v1.parse import Format, Labels
from progan_service.serving.models.version import LoadedVersion

_FILE_HEADER_BYTES = 1024


class Rows(Protocol):
    """The latents of a request, or the frames of a walk."""

    @property
    def count(self) -> int: ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]: ...

    def seeds(self, start: int, stop: int) -> list[int] | None: ...


@dataclass(frozen=True)
class Job:
    """What a request asks for; `deadline` in seconds of time.monotonic(). Its pieces share a `flow`: one turn."""

    model: LoadedVersion
    latents: Rows
    labels: Labels
    format: Format
    deadline: float
    priority: Priority
    flow: object = field(default_factory=object)

    @property
    def image_bytes(self) -> int:
        """Of one image and its latent; pixels that do not compress become a file of that size, a header and texts."""
        metadata, encoding = self.model.metadata, self.format.encoding
        header = 0 if encoding is Encoding.RAW else _FILE_HEADER_BYTES
        texts = text_bytes(self.model.imprint) if encoding is Encoding.PNG else 0
        return metadata.resolution**2 * metadata.channels + header + texts + 4 * metadata.latent_size

    def work(self, rows: int) -> Work:
        return Work(rows, self.deadline, time.monotonic(), self.flow, self.priority)

    def file(self, index: int, image: NDArray[np.uint8]) -> bytes:
        """The image of this index, encoded."""
        texts = self._texts(index) if self.format.encoding is Encoding.PNG else None
        return encode(image, self.format.encoding, self.format.quality, texts)

    def _texts(self, index: int) -> PngInfo:
        seeds = self.latents.seeds(index, index + 1)
        return text_chunks({"Seed": str(seeds[0])}, after=self.model.imprint) if seeds else self.model.imprint


@dataclass(frozen=True)
class Piece:
    """Consecutive images of a job: `files` holds them encoded, and is empty for RAW.

    asked_at, made_at   of time.monotonic(): when they were queued, and when their pixels were there
    """

    first: int
    latents: NDArray[np.float32]
    generated: Generated
    files: list[bytes]
    encode_s: float
    asked_at: float
    made_at: float
