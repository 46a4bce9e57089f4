"""Which targets are taken, and which are refused by a sentence before anything is sent."""

import pytest

from progan_client import ArgumentError, Client
from progan_client.target import addresses


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("http://there:8500", "must be HOST:PORT without http://"),
        ("https://there:8500", "must be HOST:PORT without https://; for TLS give tls=Tls()"),
        ("HTTP://there:8500/", "must be HOST:PORT without HTTP://"),
        ("grpc://there:8500", "must be HOST:PORT without grpc://"),
        ("grpcs://there:8500", "must be HOST:PORT without grpcs://; for TLS give tls=Tls()"),
        ("there:8500/images", "must be HOST:PORT without a path"),
        ("there:8500/", "must be HOST:PORT without a path"),
        ("dns:///there:8500/images", "must be HOST:PORT without a path"),
        ("there", "must be HOST:PORT"),  # gRPC would take port 443
        ("dns:///there", "must be HOST:PORT"),
        ("ipv4:10.0.0.1:8500,10.0.0.2", "must be HOST:PORT"),
        ("[::1]", "must be [ADDRESS]:PORT for an IPv6 address"),
        ("::1:8500", "must be [ADDRESS]:PORT for an IPv6 address"),  # gRPC would take ::0.1.133.0, port 443
        (":8500", "must be HOST:PORT"),
        ("there:", "must be HOST:PORT with a port of 1 to 65535"),
        ("there:http", "must be HOST:PORT with a port of 1 to 65535"),
        ("there:0", "must be HOST:PORT with a port of 1 to 65535"),
        ("there:99999", "must be HOST:PORT with a port of 1 to 65535"),  # gRPC would take 34463
        (" there:8500", "must be HOST:PORT"),
        ("there:8500\n", "must be HOST:PORT with a port of 1 to 65535"),
        ("user@there:8500", "must be HOST:PORT"),
        ("", "must be HOST:PORT"),
    ],
)
def test_what_grpc_would_misread_is_refused(target: str, rule: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        Client(target)
    assert str(refused.value) == f"target: {rule}; got {target!r}"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("there:8500", [("there", 8500)]),
        ("images.example.:65535", [("images.example.", 65535)]),
        ("[::1]:8500", [("::1", 8500)]),
        ("[fe80::1%eth0]:8500", [("fe80::1%eth0", 8500)]),
        ("dns:there:8500", [("there", 8500)]),
        ("dns:///there:8500", [("there", 8500)]),
        ("dns://10.0.0.53/there:8500", [("there", 8500)]),
        ("ipv4:10.0.0.1:8500,10.0.0.2:8501", [("10.0.0.1", 8500), ("10.0.0.2", 8501)]),
        ("ipv6:[::1]:8500,[::2]:8500", [("::1", 8500), ("::2", 8500)]),
        ("unix:/run/progan.sock", []),
        ("unix-abstract:progan", []),
        ("xds:///progan", []),
    ],
)
def test_targets_of_all_kinds_are_taken(target: str, expected: list[tuple[str, int]]) -> None:
    Client(target).close()
    assert addresses(target) == expected
