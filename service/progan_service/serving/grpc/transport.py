"""How gRPC listens: TLS, and limits on everything that a caller controls before its token is checked."""

import grpc

from progan_service.serving.access.certificates import Certificates
from progan_service.serving.access.reloadable import Reloadable
from progan_service.serving.config import ServerConfig

_MAX_CALLS = 4096  # at a time on a connection; high, because gRPC fails calls above it instead of queueing them
# Calls that gRPC holds for the server; more end as CANCELLED, neither logged nor counted. A caller that resets its
# calls as fast as it can fills these places, and the others wait until the server has looked at all of them.
_MAX_PENDING = 4096
_MAX_METADATA_BYTES = 8192  # gRPC's own limit is a soft one: up to twice as much it would refuse at random
_HANDSHAKE_S = 20  # time limit for a new connection to become usable
_MAX_CONNECTION_AGE_GRACE_S = 3600  # how long a stream may still use its old connection
_MIN_PING_INTERVAL_S = 20  # keeps a connection open through any router; clients that ping more often are cut off
_SILENCE_S = 60  # then the server asks whether the client is still there


def options(config: ServerConfig) -> list[tuple[str, int]]:
    """Return the options of the gRPC server."""
    return [
        ("grpc.so_reuseport", 0),  # else a second server on the same port starts silently
        ("grpc.http2.bdp_probe", 0),  # else the windows of unread requests grow to megabytes each
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", config.max_reply_bytes),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", _MAX_CALLS),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_S * 1000),
        ("grpc.max_connection_idle_ms", int(config.max_connection_idle_s * 1000)),
        ("grpc.max_connection_age_ms", int(config.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", _MAX_CONNECTION_AGE_GRACE_S * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _SILENCE_S * 1000),
    ]


def credentials(certificates: Reloadable[Certificates]) -> grpc.ServerCredentials:
    """Return TLS credentials that always use the latest certificates.

    gRPC calls `changed` at each handshake, in one of its own threads, and never twice at a time. A reload replaces
    `certificates.value` as a whole, so no lock is needed.
    """
    used = certificates.value

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        now = certificates.value
        if now is used:
            return None
        used = now
        return _configuration(now)

    # The stubs of gRPC leave out that None stands for no change.
    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        changed,  # type: ignore[arg-type]
        require_client_authentication=used.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )
