"""Errors as the REST paths say them: a status, and a sentence in JSON."""

import json

from progan_service.serving.errors import ServingError
from progan_service.serving.http.exchange import Exchange
from progan_service.serving.http.probes import JSON
from progan_service.serving.http.status import error_headers, http_status


async def refuse(exchange: Exchange, error: ServingError) -> None:
    """End an exchange with this error. If a part of the answer has left already, the connection is cut."""
    if exchange.ended:
        return
    if exchange.begun:
        exchange.cut()
        return
    body = json.dumps({"error": str(error)}).encode()
    await exchange.answer(http_status(error), {"Content-Type": JSON, **error_headers(error)}, body)
