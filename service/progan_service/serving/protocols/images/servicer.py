"""Images that have addresses: one model, one seed, one file."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from progan_service.serving.errors import naming
from progan_service.serving.jobs.job import Job, asked_by
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.permitted import PermittedModels
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.images.parse import ImageRequest, job, selection
from progan_service.serving.watching.calls import Call

_DIGEST_DIGITS = 16  # of the version's digest in a tag


@dataclass(frozen=True)
class ImageFile:
    """An image, and the tag that it has as long as its address means the same image.

    content   None: the caller has it already
    """

    tag: str
    encoding: str
    content: bytes | None


class ImageServicer:
    """Makes images for their addresses. Raises ServingErrors. Used in the event loop only."""

    def __init__(self, catalog: ModelCatalog, maker: ImageMaker) -> None:
        self._models = PermittedModels(catalog)
        self._maker = maker

    async def image(self, request: ImageRequest, call: Call) -> AsyncIterator[ImageFile]:
        with self._use(request, call) as version:
            asked = asked_by(call, job(request, version, call.deadline))
            encoding, tag = asked.format.encoding, _tag(asked)
            if tag in request.known or "*" in request.known:
                yield ImageFile(tag, encoding, None)
                return
            async with self._maker.whole(asked) as piece:
                self._maker.note_sent(call, asked, piece)
                yield ImageFile(tag, encoding, piece.files[0])

    @contextmanager
    def _use(self, request: ImageRequest, call: Call) -> Iterator[LoadedVersion]:
        """Keep the selected version loaded within the block."""
        with ExitStack() as held:
            with naming(label="version"):
                version = held.enter_context(self._models.use(call, *selection(request)))
            yield version


def _tag(asked: Job) -> str:
    """Return the version's digest and the seed: with the rest of the address, they say which image it is."""
    digest = asked.version.metadata.digest.removeprefix("sha256:")[:_DIGEST_DIGITS]
    (seed,) = asked.latents.seeds(0, 1) or [0]
    return f"{digest}-{seed}"
