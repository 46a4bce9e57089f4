"""The body of a request, read and decompressed within bounds."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http import HttpVersion11

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.http.status import TooLarge

BODY_S = 20  # until the last byte

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Return the body, decompressed if it was sent so. It may have `limit` bytes before and after.

    Raise InvalidArgument if it cannot be read, is too large or too slow.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(limit)
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "deflate"):
        raise InvalidArgument("Content-Encoding", f"is {coding[:100]!r}; gzip, deflate and identity can be read")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it counts the reply
    try:
        async with asyncio.timeout(BODY_S):
            parts = request.content.iter_any()
            return await _joined(parts if coding == "identity" else _decompressed(parts, limit), limit)
    except TimeoutError:
        raise InvalidArgument("request", f"did not arrive within {BODY_S} s") from None
    except (web.RequestPayloadError, zlib.error):
        raise InvalidArgument("request", "has a body that cannot be decoded") from None


async def _joined(parts: AsyncIterator[bytes], limit: int) -> bytes:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > limit:
            raise TooLarge(limit)
    return bytes(body)


async def _decompressed(parts: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield what the parts decompress to, and no more than a little above the limit of each."""
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
    async for part in parts:
        yield decompressor.decompress(part, limit + 1)
    if not decompressor.eof:
        raise InvalidArgument("request", "has a compressed body that is cut off")
