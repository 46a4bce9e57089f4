"""Messages as bytes: protobuf's own, or JSON by its rules for JSON."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import json_format, message

from progan_service.serving.errors import InvalidArgument
from progan_service.serving.http.json_pieces import in_base64
from progan_service.serving.protocols.service import Reply


class Codec(Protocol):
    """How messages are written. Pure."""

    @property
    def name(self) -> str:
        """What content types call it."""
        ...

    def parse(self, data: bytes, kind: type[message.Message]) -> Any:
        """Return a message of this kind. Raise InvalidArgument."""
        ...

    def write(self, reply: Reply, kind: type[message.Message]) -> bytes: ...


@dataclass(frozen=True)
class Binary:
    name: str = "proto"

    def parse(self, data: bytes, kind: type[message.Message]) -> Any:
        try:
            return kind.FromString(data)
        except message.DecodeError:
            raise InvalidArgument("request", "does not parse as the message of this rpc") from None

    def write(self, reply: Reply, kind: type[message.Message]) -> bytes:
        return reply if isinstance(reply, bytes) else reply.SerializeToString()


@dataclass(frozen=True)
class Json:
    name: str = "json"

    def parse(self, data: bytes, kind: type[message.Message]) -> Any:
        """Names may be written like_this or likeThis. Unknown ones are refused: they are misspelt."""
        text = data.lstrip() or b"{}"
        if not text.startswith(b"{"):  # the library takes some for empty messages
            raise InvalidArgument("request", "is no JSON of this rpc's message: it must be an object")
        try:
            return json_format.Parse(text, kind())
        except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
            raise InvalidArgument("request", f"is no JSON of this rpc's message: {error}") from None

    def write(self, reply: Reply, kind: type[message.Message]) -> bytes:
        """Base64 is written piece by piece: one long step would make every thread wait."""
        known = kind.FromString(reply if isinstance(reply, bytes) else reply.SerializeToString())
        mark = secrets.token_bytes(12)
        taken = list(_taken_out(known, mark))
        first, *others = json_format.MessageToJson(known, indent=None).encode().split(base64.b64encode(mark))
        parts = [first]
        for content, after in zip(taken, others, strict=True):
            parts += [*in_base64(content), after]
        return b"".join(parts)


def _taken_out(known: message.Message, mark: bytes) -> Iterator[bytes]:
    """Yield all bytes in a message, in the order in which JSON has them, and leave a mark in place of each."""
    for field, value in known.ListFields():
        if field.type == field.TYPE_BYTES and field.is_repeated:
            yield from value
            value[:] = [mark] * len(value)
        elif field.type == field.TYPE_BYTES:
            yield value
            setattr(known, field.name, mark)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                yield from _taken_out(part, mark)
