"""TODO"""

from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc

from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens
from progan_service.serving.errors import Unauthenticated
from progan_service.serving.grpc.border import RPC_NAMES, Context, border, current_caller
from progan_service.serving.watching.metrics import Metrics

_OPEN_TO_ALL = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}  # List would tell the models' names


class Authentication(grpc.aio.ServerInterceptor):
    """Lets no call in without a token, before anything of its request is read. To ask for health needs none."""

    def __init__(self, tokens: Reloadable[Tokens], metrics: Metrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        if handler_call_details.method not in _OPEN_TO_ALL:
            metadata = handler_call_details.invocation_metadata or ()
            try:
                current_caller.set(
                    self._tokens.value.caller([value for key, value in metadata if key == "authorization"])
                )
            except Unauthenticated as error:
                return self._refusal(handler_call_details.method, error)
        return await continuation(handler_call_details)

    def _refusal(self, path: str, error: Unauthenticated) -> "grpc.RpcMethodHandler[Any, Any]":
        """Of a call of any kind: a handler of two streams waits for no message."""

        def no_entrance() -> NoReturn:
            raise error

        async def refuse(_: object, context: Context) -> AsyncIterator[bytes]:
            async with border(RPC_NAMES.get(path, "other"), self._metrics, no_entrance, None, context):
                yield b""  # never reached

        return grpc.stream_stream_rpc_method_handler(refuse)
