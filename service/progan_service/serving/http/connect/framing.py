"""Messages in frames: a byte of flags, the length in four bytes, the message. Pure."""

import base64
import binascii

from progan_service.serving.errors import InvalidArgument, Unsupported

_HEAD_BYTES = 5
_COMPRESSED = 1


def frame(content: bytes, flags: int = 0) -> bytes:
    return bytes((flags,)) + len(content).to_bytes(4, "big") + content


def only_message(body: bytes) -> bytes:
    """Return the message of a body that holds one frame. Raise InvalidArgument, or Unsupported if it is compressed."""
    if len(body) < _HEAD_BYTES:
        raise InvalidArgument("request", f"has {len(body)} bytes; a frame begins with {_HEAD_BYTES}: flags and length")
    if body[0] & _COMPRESSED:
        raise Unsupported("compressed frames are not read; send them as they are (identity)")
    length = int.from_bytes(body[1:_HEAD_BYTES], "big")
    if body[0] or length != len(body) - _HEAD_BYTES:
        given = len(body) - _HEAD_BYTES
        raise InvalidArgument("request", f"must be one frame; this one announces {length} bytes, and {given} follow it")
    return body[_HEAD_BYTES:]


def from_text(body: bytes) -> bytes:
    """Return the bytes of a body in base64. Raise InvalidArgument."""
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise InvalidArgument("request", "is not base64") from None
