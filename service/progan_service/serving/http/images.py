"""GET /v1/images/MODEL/SEED.png: images as files, for web pages, curl and caches."""

import re
from contextlib import aclosing

from progan_service.serving.errors import InvalidArgument, ServingError
from progan_service.serving.http.border import Border, Rpc
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.rest_errors import refuse
from progan_service.serving.http.routes import Route
from progan_service.serving.protocols.images.parse import ImageRequest
from progan_service.serving.protocols.images.servicer import ImageFile, ImageServicer

IMAGE_METHOD = "GetImage"  # its name in logs and metrics

_PARAMETERS = ("version", "label", "quality")


class Images:
    """Answers for the addresses of images. Used in the event loop of the HTTP port."""

    def __init__(self, images: ImageServicer, border: Border) -> None:
        self._rpc = Rpc("images", IMAGE_METHOD, images.image)
        self._border = border

    def routes(self) -> list[Route]:
        path = re.compile(r"/v1/images/(?P<model>[^/]+)/(?P<seed>[^/.]+)\.(?P<kind>[^/.]+)")
        return [Route("GET", path, self.answer)]

    async def answer(self, exchange: Exchange) -> None:
        async def read() -> ImageRequest:
            return _request(exchange)

        try:
            async with aclosing(self._border.replies(exchange, self._rpc, read)) as replies:
                async for file in replies:
                    await _send(exchange, file)
        except ServingError as error:
            await refuse(exchange, error)


def _request(exchange: Exchange) -> ImageRequest:
    unknown = exchange.query.keys() - set(_PARAMETERS)
    if unknown:
        raise InvalidArgument("parameters", f"{min(unknown)[:40]!r} is none; there are {', '.join(_PARAMETERS)}")
    return ImageRequest(
        **exchange.words,
        version=exchange.query.get("version", ""),
        labels=tuple(exchange.query.getall("label", ())),
        quality=exchange.query.get("quality", ""),
        known=tuple(tag.strip().removeprefix("W/").strip('"') for tag in exchange.header("If-None-Match").split(",")),
    )


async def _send(exchange: Exchange, file: ImageFile) -> None:
    """Send an image, which caches may keep, but must ask whether its address still means it."""
    headers = {"ETag": f'W/"{file.tag}"', "Cache-Control": "no-cache"}
    if file.content is None:
        await exchange.answer(304, headers, b"")
    else:
        await exchange.answer(200, {**headers, "Content-Type": f"image/{file.encoding.lower()}"}, file.content)
