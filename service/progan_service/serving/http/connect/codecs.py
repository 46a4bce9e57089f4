"""Messages as bytes: protobuf's own, or JSON by its rules for JSON."""

from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import json_format, message

from progan_service.serving.errors import InvalidArgument
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
        known = kind.FromString(reply) if isinstance(reply, bytes) else reply
        return json_format.MessageToJson(known, indent=None).encode()
