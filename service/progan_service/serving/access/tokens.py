"""Bearer tokens, read from a file: which of them a call brings, and what its caller may do.

Only digests of tokens are held in memory. No error, log line or `repr` contains a token.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progan_service.errors import ConfigError
from progan_service.serving.access.reloadable import text
from progan_service.serving.errors import Unauthenticated
from progan_service.serving.rights import Quota, Rights
from progan_service.store.model_name import MODEL_NAME

_MIN_TOKEN, _MAX_TOKEN = 16, 4096  # characters: too long to be guessed; short enough for the metadata of a call
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, section 2.1
_MIN_RATE, _MAX_IMAGES = 0.001, 10**6  # a second; the latter at once, too: more is no quota


@dataclass(frozen=True)
class Entry:
    """A line of the file: who calls with this token (its SHA-256), and what it may do."""

    name: str
    digest: bytes
    rights: Rights


@dataclass(frozen=True)
class Tokens:
    """The bearer tokens. A name may have several; they have the same rights, and share its quota."""

    entries: tuple[Entry, ...] = field(repr=False)

    @property
    def quotas(self) -> dict[str, Quota | None]:
        """Return the quotas of all callers, by name; None for a caller without one."""
        return {entry.name: entry.rights.quota for entry in self.entries}

    def caller(self, authorization: Sequence[str]) -> Entry:
        """Return the entry of the token in a call's `authorization` metadata. Raises Unauthenticated.

        Blanks around the words do not count: perf_analyzer sends one before them.
        The time that it takes does not depend on which token it is, or on how much of it is right.
        """
        if not authorization:
            raise Unauthenticated("a token is needed: send `authorization: Bearer TOKEN` with the call")
        scheme, _, token = authorization[0].strip(" ").partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("authorization must be given once, as `Bearer TOKEN`")
        given, caller = _digest(token.lstrip(" ")), None
        for entry in self.entries:
            if hmac.compare_digest(entry.digest, given):
                caller = entry
        if not caller:
            raise Unauthenticated("the token is not known to this server")
        return caller


def read_tokens(path: Path) -> Tokens:
    """Return the tokens of a file with lines `NAME TOKEN [models=A,B] [images_per_s=N [images_at_once=N]]`.

    Empty lines and lines that begin with # are skipped. Raises ConfigError, which names file, line and rule. It quotes
    neither name nor token, for the two may have been swapped.
    """
    entries: dict[int, Entry] = {}  # by number of the line
    for number, line in enumerate(text(path).splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                entries[number] = _checked(_parse(line.split()), entries)
            except ValueError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from None
    if not entries:
        raise ConfigError(f"{path}: has no token, so that nobody could call; add a line NAME TOKEN")
    return Tokens(tuple(entries.values()))


def _parse(words: list[str]) -> Entry:
    if len(words) < 2:
        raise ValueError("must be NAME TOKEN; has one word")
    name, token, *rights = words
    if not _NAME.fullmatch(name):
        raise ValueError("the name must have 1 to 32 letters, digits, dots, dashes or underscores")
    if not _MIN_TOKEN <= len(token) <= _MAX_TOKEN:
        rule = f"must have {_MIN_TOKEN} to {_MAX_TOKEN} (`openssl rand -hex 32` makes a good one)"
        raise ValueError(f"the token has {len(token)} characters; {rule}")
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token may have letters, digits and -._~+/= only")
    return Entry(name, _digest(token), _rights(rights))


def _checked(entry: Entry, others: dict[int, Entry]) -> Entry:
    """Return the entry. Raise ValueError if it contradicts an earlier line."""
    for number, other in others.items():
        if other.digest == entry.digest:
            raise ValueError(f"has the same token as line {number}")
        if other.name == entry.name and other.rights != entry.rights:
            raise ValueError(f"has the same name as line {number}, and must have the same rights")
    return entry


def _rights(words: list[str]) -> Rights:
    given: dict[str, Any] = {}
    for place, word in enumerate(words, start=3):
        key, _, value = word.partition("=")
        if key not in _READ:
            raise ValueError(f"word {place} must begin with models=, images_per_s= or images_at_once=")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = _READ[key](value)
    per_s, at_once = given.get("images_per_s"), given.get("images_at_once")
    if at_once and not per_s:
        raise ValueError("images_at_once needs images_per_s, too")
    quota = Quota(per_s, at_once or math.ceil(per_s)) if per_s else None
    return Rights(given.get("models"), quota)


def _models(value: str) -> frozenset[str]:
    names = value.split(",")
    wrong = [name for name in names if not MODEL_NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"models={value}: must be names of models, separated by commas; {wrong[0]!r} is none")
    return frozenset(names)


def _images_per_s(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not _MIN_RATE <= number <= _MAX_IMAGES:
        raise ValueError(f"images_per_s={value}: must be a number from {_MIN_RATE} to {_MAX_IMAGES}")
    return number


def _images_at_once(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= float(value) <= _MAX_IMAGES):
        raise ValueError(f"images_at_once={value}: must be a whole number from 1 to {_MAX_IMAGES}")
    return int(value)


_READ: dict[str, Callable[[str], Any]] = {
    "models": _models,
    "images_per_s": _images_per_s,
    "images_at_once": _images_at_once,
}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
