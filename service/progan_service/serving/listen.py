"""The error of a port that cannot be opened, and the reason that the system gives."""

import socket

from progan_service.errors import MendableError


class ListenError(MendableError):
    """A port cannot be opened; the message names the address."""


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
