"""How gRPC listens: TLS, and limits on all that a caller controls before it says who it is."""

import grpc

from progan_service.serving.access.certificates import Certificates
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.config import ServerConfig

_MAX_CONNECTIONS = 800  # a process commonly has 1024 file descriptors, and needs some for models
_MAX_CALLS = 4096  # of a connection at a time; far above what queues up, for gRPC fails what is above, and waits not
_MAX_PENDING = 100_000  # calls gRPC keeps for us; those above it would end as CANCELLED, untold and uncounted
_MAX_METADATA_BYTES = 8192  # gRPC's own limit as a sharp one; from there to twice as much it would refuse at random
_HANDSHAKE_S = 20  # by then a new connection has to be one
_MAX_CONNECTION_AGE_S = 300  # clients look up the addresses anew and find new pods
_MAX_CONNECTION_AGE_GRACE_S = 3600  # what a stream gets to finish on its old connection
_MIN_PING_INTERVAL_S = 20  # often enough to keep a connection open through any router; who pings more is cut off
_SILENCE_S = 60  # after which a caller is asked whether it is still there


def options(config: ServerConfig) -> list[tuple[str, int]]:
    """Of the gRPC server."""
    return [
        ("grpc.so_reuseport", 0),  # else a second server on the same port starts silently
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
        ("grpc.max_concurrent_streams", _MAX_CALLS),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_S * 1000),
        ("grpc.max_connection_age_ms", _MAX_CONNECTION_AGE_S * 1000),
        ("grpc.max_connection_age_grace_ms", _MAX_CONNECTION_AGE_GRACE_S * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _SILENCE_S * 1000),
    ]


def credentials(certificates: Reloadable[Certificates]) -> grpc.ServerCredentials:
    """TLS with the certificates as they are at each handshake; gRPC asks for news in a thread of its own."""
    used = certificates.value

    def news() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        now = certificates.value
        if now is used:
            return None
        used = now
        return _configuration(now)

    # The stubs of gRPC leave out that None stands for no news.
    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        news,  # type: ignore[arg-type]
        require_client_authentication=used.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )
