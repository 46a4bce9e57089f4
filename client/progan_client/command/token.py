"""Read a bearer token from a file or a variable. No error shows any of it. Pure."""

import re

from progan_client.errors import ArgumentError

_NAMED = re.compile(r"\S+[ \t]+\S+")  # NAME TOKEN, a line of the server's file
_TOKEN = re.compile(r"[!-~]+")


def checked_token(content: bytes, source: str, value: str) -> str:
    """Return the token. Raise ArgumentError that names the source and the given value, a path for example."""
    lines = [line.strip() for line in content.decode("ascii", errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ArgumentError(source, "must contain a token", value)
    if all(_NAMED.fullmatch(line) for line in lines):
        rule = "must contain the token alone, not NAME TOKEN as in the list of the server"
        raise ArgumentError(source, rule, value)
    if len(lines) > 1:
        raise ArgumentError(source, f"must contain one line with the token, not {len(lines)}", value)
    if not _TOKEN.fullmatch(lines[0]):
        raise ArgumentError(source, "must contain one word of printable ASCII characters", value)
    return lines[0]
