"""What a request asks for, whatever its protocol, and the pieces in which it is answered."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from progan_service.serving.batching.request import Generated
from progan_service.serving.batching.work import Priority, Work
from progan_service.serving.files.encoding import Encoding, encode, kept_chunks, text_bytes, text_chunks
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.rows import Labels, Rows
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.rights import Quota
from progan_service.serving.watching.calls import Call

_FILE_HEADER_BYTES = 2048
_LONGEST_LABELS = 500  # characters, in a file


@dataclass(frozen=True)
class Job:
    """Images that a call asks for.

    deadline   in seconds of time.monotonic(); infinity without one
    first      index of the first image to make: a stream that broke goes on there
    pixels     whether the pixels are wanted beside files
    widened    by how much pixels without files grow in the reply: 4 if they become floats
    owner      who asks: owners share the devices evenly
    flow       all pieces of a job have the same: they are one call when batches are filled
    caller     the name of the token; empty without one
    quota      of all jobs of this caller
    edits      what is done to the latents of seeds, in words; empty for nothing
    even       whether the frames of a walk are to have an even pace, which has to be measured
    begun      whether images were made for it: it is not refused any more for lack of room
    """

    version: LoadedVersion
    latents: Rows
    labels: Labels
    format: Format
    deadline: float
    priority: Priority
    first: int = 0
    pixels: bool = False
    widened: int = 1
    owner: str = ""
    flow: object = field(default_factory=object)
    caller: str = ""
    quota: Quota | None = None
    edits: str = ""
    even: bool = False
    begun: bool = False

    @property
    def image_bytes(self) -> int:
        """Return the largest size of an image and its latent, for pixels that do not compress."""
        raw, encoding = self.version.image_bytes, self.format.encoding
        if encoding is Encoding.RAW:
            return self.widened * raw
        texts = text_bytes(kept_chunks(self.version.texts)) if encoding is Encoding.PNG else 0
        return (1 + self.pixels) * raw + _FILE_HEADER_BYTES + texts

    @property
    def given_bytes(self) -> int:
        """Return how much memory the request takes while the job runs: the message, and the arrays made of it."""
        return 2 * self.latents.nbytes

    def is_patient(self, start: int) -> bool:
        """Return whether the piece that begins with this image waits for room: later pieces do."""
        return self.begun or start > self.first

    def work(self, rows: int, *, patient: bool) -> Work:
        """Return work of so many rows for a queue."""
        now, model = time.monotonic(), self.version.name
        return Work(rows, self.deadline, now, self.flow, self.priority, self.owner, patient, model)

    def file(self, index: int, image: NDArray[np.uint8]) -> bytes:
        """Return the image with this index, encoded as a file."""
        texts = self._texts(index) if self.format.encoding is Encoding.PNG else None
        return encode(image, self.format.encoding, self.format.quality, texts)

    def _texts(self, index: int) -> PngInfo:
        seeds = self.latents.seeds(index, index + 1)
        common = kept_chunks(self.version.texts)
        if not seeds:
            return common
        labels = self.labels.text(index, self.version.metadata.label_names)
        texts = {"Seed": str(seeds[0]), "Labels": labels[:_LONGEST_LABELS], "Edits": self.edits}
        return text_chunks({keyword: text for keyword, text in texts.items() if text}, after=common)


def asked_by(call: Call, job: Job) -> Job:
    """Return the job as one of the caller."""
    return replace(job, owner=call.owner, caller=call.caller, quota=call.rights.quota)


@dataclass(frozen=True)
class Piece:
    """Consecutive images of a job, the first one with index `first`.

    files      the images encoded; empty for RAW
    encode_s   duration of encoding, in seconds
    asked_at   when the images were queued, in seconds of time.monotonic()
    made_at    when their pixels were ready, likewise
    """

    first: int
    latents: NDArray[np.float32]
    generated: Generated
    files: list[bytes]
    encode_s: float
    asked_at: float
    made_at: float
