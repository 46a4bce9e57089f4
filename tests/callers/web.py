"""A caller over HTTP, who knows nothing but requests and bytes."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Any

PATIENCE_S = 60


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """Sends each request on a connection of its own."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, headers: Mapping[str, str] = {}) -> None:
        self.port = port
        self._tls = tls
        self._headers = headers

    def connect(self) -> HTTPConnection:
        if self._tls:
            return HTTPSConnection("localhost", self.port, timeout=PATIENCE_S, context=self._tls)
        return HTTPConnection("localhost", self.port, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, content: Any, kind: str = "application/json", **headers: str) -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, {"Content-Type": kind, **named})
