"""TODO"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from progan_service.errors import ConfigError
from progan_service.serving.access.reloadable import text
from progan_service.serving.errors import Unauthenticated

_MIN_TOKEN, _MAX_TOKEN = 16, 4096  # characters: beyond guessing; and fits the metadata, whatever else is there
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, section 2.1


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens: the name of each and its SHA-256. A name may have several."""

    entries: tuple[tuple[str, bytes], ...] = field(repr=False)

    def caller(self, authorization: Sequence[str]) -> str:
        """The name of the token in a call's `authorization` metadata; raises Unauthenticated.

        Takes the same time whichever token it is, and however much of it is right.
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
            raise Unauthenticated("this is no token of this server")
        return caller


def read_tokens(path: Path) -> Tokens:
    """Tokens of a file of lines `NAME TOKEN`; empty lines and those that begin with # are left out.

    Raises ConfigError, which names file, line and rule but repeats neither word: who swaps them has the token first.
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
        raise ConfigError(f"{path}: holds no token, so that nobody could call; add a line NAME TOKEN")
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
