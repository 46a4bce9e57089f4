"""TODO"""

import socket


class ListenError(Exception):
    """An address that cannot be taken; the message names it."""


def refusal(what: str, host: str, port: int, option: str, reason: OSError | None) -> ListenError:
    why = reason.strerror if reason else "the system does not say why"
    return ListenError(f"the {what} port cannot be opened on {host}:{port}: {why}; try another {option} or --host")


def bind_error(host: str, port: int) -> OSError | None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, port))
    except OSError as error:
        return error
    return None
