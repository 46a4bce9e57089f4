"""What listening takes: a port that stays open, and file descriptors for its connections."""

import resource
import socket
from contextlib import suppress
from typing import NamedTuple

from progan_service.errors import MendableError

_OWN = 48  # descriptors for models, logs and threads: a server at rest has about 30
_MIN_CONNECTIONS = 16
_MAX_HTTP = 96  # a browser opens six


class ListenError(MendableError):
    """A port cannot be opened; the message names the address."""


class NotAcceptingError(MendableError):
    """The server no longer accepts calls, through a fault of its own."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the gRPC port has stopped accepting calls: {cause}; start the server again")


def cannot_listen(what: str, host: str, port: int, option: str, reason: OSError | None) -> ListenError:
    """Return the error about a port; `option` is the flag by which the user chooses another one."""
    why = reason.strerror if reason else "the system does not say why"
    return ListenError(f"the {what} port cannot be opened on {host}:{port}: {why}; try another {option} or --host")


def bind_error(host: str, port: int) -> OSError | None:
    """Return the error of the system about this address, or None if it can be had."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


class Share(NamedTuple):
    """The most connections that each port may have."""

    grpc: int
    http: int


def file_limit(connections: int) -> int:
    """Return how many files this process may open, after raising that for `connections` as far as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(_OWN + connections + _MAX_HTTP, (connections + _MAX_HTTP) * 8 // 7 + 1)
    if soft == resource.RLIM_INFINITY:
        return needed
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # some systems have a lower limit still
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def share(files: int, connections: int) -> Share:
    """Share out `files`, the limit of open files. The rest is for the server itself: models, logs, certificates.

    connections   wanted over gRPC
    Raise ListenError if the limit is too low.
    """
    spare = files - max(_OWN, files // 8)
    if spare < _MIN_CONNECTIONS:
        least = _OWN + _MIN_CONNECTIONS
        raise ListenError(
            f"this process may open {files} files, and the server needs {least}; raise it: ulimit -n {least}"
        )
    http = min(_MAX_HTTP, spare // 4)
    return Share(min(connections, spare - http), http)
