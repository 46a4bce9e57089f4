"""How long a caller waits for its answer, as its headers say."""

from collections.abc import Iterable

from progan_service.serving.errors import InvalidArgument

_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_DIGITS = 10


def seconds_left(headers: Iterable[tuple[str, str]]) -> float:
    """Return the earliest limit, in seconds; infinity without one. Raise InvalidArgument.

    `connect-timeout-ms: 3000` is Connect's header, `grpc-timeout: 3000m` is gRPC-Web's; any call may have them.
    """
    left_s = float("inf")
    for name, value in headers:
        match name:
            case "connect-timeout-ms":
                left_s = min(left_s, _number(name, value) * 1e-3)
            case "grpc-timeout":
                unit = _UNITS_S.get(value[-1:])
                if unit is None:
                    raise InvalidArgument(name, f"is {value[:40]!r}; must end with one of {', '.join(_UNITS_S)}")
                left_s = min(left_s, _number(name, value[:-1]) * unit)
    return left_s


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise InvalidArgument(name, f"holds {text[:40]!r}; must be a number of at most {_MOST_DIGITS} digits")
    return int(text)
