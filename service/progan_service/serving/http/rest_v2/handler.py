"""The Open Inference Protocol v2 by REST, as Triton's and KServe's clients call it, binary tensors included."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from progan_service.serving.errors import ServingError
from progan_service.serving.http.apart import Apart
from progan_service.serving.http.border import Border, Rpc
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.json_values import object_of, parsed
from progan_service.serving.http.probes import JSON
from progan_service.serving.http.rest_errors import refuse
from progan_service.serving.http.rest_v2.reply import inferred, plain
from progan_service.serving.http.rest_v2.request import Asked, inference
from progan_service.serving.http.routes import Route
from progan_service.serving.protocols.service import Service

_NAMES_BYTES = 64 * 2**10  # of the longest body that only holds names
_LENGTH = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"

_MODEL = "/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_STORED = "/v2/repository/models/(?P<model>[^/]+)"
_PATHS = [  # method, path, rpc, and how its request names the model
    ("GET", "/v2/?", "ServerMetadata", ""),
    ("GET", "/v2/models/stats", "ModelStatistics", ""),
    ("GET", _MODEL, "ModelMetadata", "name"),
    ("GET", f"{_MODEL}/ready", "ModelReady", "name"),
    ("GET", f"{_MODEL}/config", "ModelConfig", "name"),
    ("GET", f"{_MODEL}/stats", "ModelStatistics", "name"),
    ("POST", "/v2/repository/index", "RepositoryIndex", ""),
    ("POST", f"{_STORED}/load", "RepositoryModelLoad", "model_name"),
    ("POST", f"{_STORED}/unload", "RepositoryModelUnload", "model_name"),
    *((method, f"(?:{_MODEL}|/v2)/trace/setting", "TraceSetting", "model_name") for method in ("GET", "POST")),
    *((method, "/v2/logging", "LogSettings", "") for method in ("GET", "POST")),
    *(
        (method, f"/v2/{kind.lower()}sharedmemory(?:/region/(?P<region>[^/]+))?/{action.lower()}", rpc, "")
        for kind in ("System", "Cuda")
        for method, action in (("GET", "Status"), ("POST", "Register"), ("POST", "Unregister"))
        for rpc in (f"{kind}SharedMemory{action}",)
    ),
]


class RestV2:
    """Answers for the paths under /v2, but for health. Used in the event loop of the HTTP port."""

    def __init__(self, service: Service, border: Border, apart: Apart, max_request_bytes: int) -> None:
        self._service = service
        self._border = border
        self._apart = apart
        self._max_bytes = max_request_bytes

    def routes(self) -> list[Route]:
        infer = Route("POST", re.compile(f"{_MODEL}/infer"), self._infer)
        return [infer] + [
            Route(method, re.compile(path), partial(self._ask, rpc, names_model))
            for method, path, rpc, names_model in _PATHS
        ]

    async def _infer(self, exchange: Exchange) -> None:
        asked: list[Asked] = []

        async def read() -> Any:
            body = await exchange.body(self._max_bytes)
            parse = partial(inference, body, exchange.header(_LENGTH), exchange.words)
            asked.append(await self._apart.do(parse, len(body)))
            return asked[0].message

        async def send(reply: bytes) -> None:
            text, binary = await self._apart.do(partial(inferred, reply, asked[0]), len(reply))
            headers = {"Content-Type": JSON}
            if binary:
                length = await _length(text())
                whole = length + sum(map(len, binary))
                headers = {"Content-Type": _BINARY, _LENGTH: str(length), "Content-Length": str(whole)}
            await exchange.answer(200, headers, chain(text(), binary))

        await self._answer(exchange, "ModelInfer", read, send)

    async def _ask(self, rpc: str, names_model: str, exchange: Exchange) -> None:
        async def read() -> Any:
            content = parsed(await exchange.body(_NAMES_BYTES))
            return self._request(rpc, names_model, exchange.words, content)

        async def send(reply: Any) -> None:
            status = 503 if rpc == "ModelReady" and not reply.ready else 200
            await exchange.answer(status, {"Content-Type": JSON}, json.dumps(_content(rpc, reply)).encode())

        await self._answer(exchange, rpc, read, send)

    async def _answer(
        self,
        exchange: Exchange,
        rpc: str,
        read: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        called = Rpc(self._service.descriptor.full_name, rpc, getattr(self._service.servicer, rpc))
        try:
            async with aclosing(self._border.replies(exchange, called, read)) as replies:
                async for reply in replies:
                    await send(reply)
        except ServingError as error:
            await refuse(exchange, error)

    def _request(self, rpc: str, names_model: str, words: Mapping[str, str], content: dict[str, Any]) -> Any:
        request: Any = GetMessageClass(self._service.descriptor.methods_by_name[rpc].input_type)()
        if names_model and "model" in words:
            setattr(request, names_model, words["model"])
        if names_model == "name":
            request.version = words.get("version", "")
        match rpc:
            case "RepositoryIndex":
                request.ready = content.get("ready") is True
            case "RepositoryModelLoad":
                for name in object_of(content.get("parameters", {}), "parameters"):
                    request.parameters[name.encode("utf-8", "replace").decode()].string_param = ""
            case "TraceSetting" | "LogSettings":
                for name in content:
                    request.settings[name.encode("utf-8", "replace").decode()].SetInParent()
        return request


async def _length(pieces: Iterable[bytes]) -> int:
    length = 0
    for piece in pieces:
        length += len(piece)
        await asyncio.sleep(0)  # probes are answered between two pieces
    return length


def _content(rpc: str, reply: Any) -> Any:
    """Return a reply as its clients expect it: some of them without the message around it."""
    content = plain(reply)
    match rpc:
        case "ModelConfig":
            return content["config"]
        case "RepositoryIndex":
            return content["models"]
        case "TraceSetting":
            return {name: setting["value"] for name, setting in content["settings"].items()}
        case "LogSettings":
            return {name: next(iter(setting.values())) for name, setting in content["settings"].items()}
        case "SystemSharedMemoryStatus" | "CudaSharedMemoryStatus":
            return list(content["regions"].values())
    return content
