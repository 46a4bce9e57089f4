"""Bearer tokens, read from a file: which of them a call brings.

Only digests of tokens are held in memory. No error, log line or `repr` contains a token.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from progan_service.errors import ConfigError
from progan_service.serving.access.reloadable import text
from progan_service.serving.errors import Unauthenticated

_MIN_TOKEN, _MAX_TOKEN = 16, 4096  # characters: too long to be guessed; short enough for the metadata of a call
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, section 2.1


@dataclass(frozen=True)
class Tokens:
    """The name and the SHA-256 of each bearer token. A name may have several tokens."""

    entries: tuple[tuple[str, bytes], ...] = field(repr=False)

    def caller(self, authorization: Sequence[str]) -> str:
        """Return the name of the token in a call's `authorization` metadata. Raises Unauthenticated.

        The time that it takes does not depend on which token it is, or on how much of it is right.
        """
        if not authorization:
            raise Unauthenticated("a token is needed: send the metadata `authorization: Bearer TOKEN`")
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("authorization must be given once, as `Bearer TOKEN`")
        given, caller = _digest(token), ""
        for name, known in self.entries:
            if hmac.compare_digest(known, given):
                caller = name
        if not caller:
            raise Unauthenticated("the token is not known to this server")
        return caller


def read_tokens(path: Path) -> Tokens:
    """Return the tokens of a file with lines `NAME TOKEN`. Empty lines and lines that begin with # are skipped.

    Raises ConfigError, which names file, line and rule. It quotes neither word, for the two may have been swapped.
    """
    lines_of: dict[bytes, int] = {}
    entries = []
    for number, line in enumerate(text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, token = _parse(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        first = lines_of.setdefault(_digest(token), number)
        if first != number:
            raise ConfigError(f"{path}, line {number}: has the same token as line {first}")
        entries.append((name, _digest(token)))
    if not entries:
        raise ConfigError(f"{path}: has no token, so that nobody could call; add a line NAME TOKEN")
    return Tokens(tuple(entries))


def _parse(line: str) -> tuple[str, str]:
    words = line.split()
    if len(words) != 2:
        raise ValueError(f"must be NAME TOKEN, two words; has {len(words)}")
    name, token = words
    if not _NAME.fullmatch(name):
        raise ValueError("the name must have 1 to 32 letters, digits, dots, dashes or underscores")
    if not _MIN_TOKEN <= len(token) <= _MAX_TOKEN:
        rule = f"must have {_MIN_TOKEN} to {_MAX_TOKEN} (`openssl rand -hex 32` makes a good one)"
        raise ValueError(f"the token has {len(token)} characters; {rule}")
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token may have letters, digits and -._~+/= only")
    return name, token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
