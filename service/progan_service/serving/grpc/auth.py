"""Bearer tokens in the metadata of gRPC calls."""

from collections.abc import Callable
from typing import Any

import grpc

from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens
from progan_service.serving.errors import Unauthenticated
from progan_service.serving.grpc.border import Border, token_name, token_rights

_OPEN_TO_ALL = {  # Health/List would reveal names of models
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
}


class Authentication(grpc.aio.ServerInterceptor):
    """Refuses calls without a token of this server, before anything of their request is read. Health needs none.

    Used in the event loop. A reload replaces the tokens at once, from another thread.
    """

    def __init__(self, tokens: Reloadable[Tokens], border: Border) -> None:
        self._tokens = tokens
        self._border = border

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        if handler_call_details.method not in _OPEN_TO_ALL:
            metadata = handler_call_details.invocation_metadata or ()
            try:
                caller = self._tokens.value.caller([value for key, value in metadata if key == "authorization"])
            except Unauthenticated as error:
                return self._border.refusal(handler_call_details.method, error)
            token_name.set(caller.name)
            token_rights.set(caller.rights)
        return await continuation(handler_call_details)
