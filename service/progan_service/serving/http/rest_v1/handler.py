"""TensorFlow Serving's REST API: predict, status and metadata; and what KServe's v1 clients add to it."""

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from progan_service.serving.errors import ServingError
from progan_service.serving.http.apart import Apart
from progan_service.serving.http.border import Border, Rpc
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.probes import JSON
from progan_service.serving.http.rest_errors import refuse
from progan_service.serving.http.rest_v1 import reply
from progan_service.serving.http.rest_v1.request import prediction, selected
from progan_service.serving.http.routes import Answer, Route
from progan_service.serving.protocols.tensorflow_serving.servicer import (
    Predicted,
    Prediction,
    PredictionServicer,
    Selected,
)

_MODEL = "/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?"


class RestV1:
    """Answers for the paths under /v1/models, in any case. Used in the event loop of the HTTP port."""

    def __init__(self, servicer: PredictionServicer, border: Border, apart: Apart, max_request_bytes: int) -> None:
        self._servicer = servicer
        self._border = border
        self._apart = apart
        self._max_bytes = max_request_bytes

    def routes(self) -> list[Route]:
        paths: list[tuple[str, str, Answer]] = [
            ("POST", f"{_MODEL}:predict", self._predict),
            ("POST", f"{_MODEL}:classify", partial(self._other, "Classify")),
            ("POST", f"{_MODEL}:regress", partial(self._other, "Regress")),
            ("GET", f"{_MODEL}/metadata", self._metadata),
            ("GET", _MODEL, self._status),
            ("GET", "/v1/models", self._models),
        ]
        return [Route(method, re.compile(path, re.IGNORECASE), answer) for method, path, answer in paths]

    async def _predict(self, exchange: Exchange) -> None:
        asked: list[tuple[Prediction, bool]] = []

        async def read() -> Prediction:
            body = await exchange.body(self._max_bytes)
            asked.append(await self._apart.do(partial(prediction, body, exchange.words), len(body)))
            return asked[0][0]

        async def send(images: Predicted) -> None:
            request, by_row = asked[0]
            body = reply.predicted(images, request.signature, by_row=by_row)
            await exchange.answer(200, {"Content-Type": JSON}, body)

        await self._answer(exchange, "Predict", self._servicer.predict, read, send)

    async def _metadata(self, exchange: Exchange) -> None:
        await self._show(exchange, "GetModelMetadata", self._servicer.metadata, reply.metadata)

    async def _status(self, exchange: Exchange) -> None:
        await self._show(exchange, "GetModelStatus", self._servicer.status, reply.status)

    async def _models(self, exchange: Exchange) -> None:
        await self._show(exchange, "ListModels", self._servicer.models, lambda names: {"models": names})

    async def _other(self, method: str, exchange: Exchange) -> None:
        await self._show(exchange, method, self._servicer.other, lambda nothing: nothing)

    async def _show(
        self, exchange: Exchange, method: str, behaviour: Callable[..., Any], show: Callable[[Any], Any]
    ) -> None:
        async def read() -> Selected | None:
            return selected(exchange.words) if "model" in exchange.words else None

        async def send(found: Any) -> None:
            await exchange.answer(200, {"Content-Type": JSON}, json.dumps(show(found)).encode())

        await self._answer(exchange, method, behaviour, read, send)

    async def _answer(
        self,
        exchange: Exchange,
        method: str,
        behaviour: Callable[..., Any],
        read: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        rpc = Rpc("tensorflow.serving.PredictionService", method, behaviour)
        try:
            async with aclosing(self._border.replies(exchange, rpc, read)) as replies:
                async for found in replies:
                    await send(found)
        except ServingError as error:
            await refuse(exchange, error)
