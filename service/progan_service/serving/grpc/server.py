"""The gRPC port: services behind one border, with health and reflection beside them."""

from collections.abc import Sequence

from grpc_health.v1 import health_pb2, health_pb2_grpc

from progan_service.serving.access.certificates import Certificates
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.access.tokens import Tokens
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import UnknownMethod
from progan_service.serving.grpc.accepting import AcceptingServer
from progan_service.serving.grpc.auth import Authentication
from progan_service.serving.grpc.border import Border
from progan_service.serving.grpc.health import Health
from progan_service.serving.grpc.receiving import LibraryRequests, Receiver
from progan_service.serving.grpc.reflection import REFLECTION_NAMES, reflection_handlers
from progan_service.serving.grpc.transport import credentials, options
from progan_service.serving.listen import NotAcceptingError, bind_error, cannot_listen
from progan_service.serving.protocols.service import Service

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]


class GrpcServer:
    """Listens from the start, and answers from `start` to `stop`. Made and used in one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        border: Border,
        receiver: Receiver,
        services: Sequence[Service],
        health: Health,
        tokens: Reloadable[Tokens] | None,
        certificates: Reloadable[Certificates] | None,
    ) -> None:
        """Raise ListenError if the port cannot be opened."""
        guards = [Authentication(tokens, border)] if tokens else []
        interceptors = [*guards, LibraryRequests(receiver)]
        self._server = AcceptingServer(interceptors, lambda: border.refusal("", UnknownMethod()), options(config))
        for service in services:
            self._server.add_registered_method_handlers(service.descriptor.full_name, border.handlers(service))
        health_pb2_grpc.add_HealthServicer_to_server(health.servicer, self._server)
        describing = reflection_handlers([*(service.descriptor for service in services), _HEALTH])
        for name in REFLECTION_NAMES:
            self._server.add_registered_method_handlers(name, describing)
        self.port = self._listen(config.host, config.port, certificates)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls; those that still run after `grace_s` are cancelled."""
        await self._server.shutdown(grace_s)

    async def end(self) -> NotAcceptingError | None:
        """Return when calls are no longer accepted: the error that is the cause, or None after `stop`."""
        return await self._server.end

    def _listen(self, host: str, port: int, certificates: Reloadable[Certificates] | None) -> int:
        address = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
        if certificates:
            opened = self._server.add_secure_port(address, credentials(certificates))
        else:
            opened = self._server.add_insecure_port(address)
        if not opened:  # gRPC does not say why; the system does
            reason = bind_error(host, port)
            raise cannot_listen("gRPC", host, port, "--port", reason) from reason
        return int(opened)
