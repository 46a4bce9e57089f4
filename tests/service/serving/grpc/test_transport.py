"""How gRPC listens."""

from progan_service.serving.config import ServerConfig
from progan_service.serving.grpc.transport import options


def test_the_age_of_connections_is_a_setting() -> None:
    """gRPC takes milliseconds."""
    assert dict(options(ServerConfig()))["grpc.max_connection_age_ms"] == 300_000
    assert dict(options(ServerConfig(max_connection_age_s=30)))["grpc.max_connection_age_ms"] == 30_000
