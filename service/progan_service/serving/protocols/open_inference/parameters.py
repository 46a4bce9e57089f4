"""The parameters of an inference request, with their kinds checked. Pure."""

from collections.abc import Mapping
from typing import Any

from progan_service.serving.errors import InvalidArgument

_IGNORED = {"sequence_id", "sequence_start", "sequence_end", "headers", "binary_data_output"}
_KNOWN = (
    *("encoding", "quality", "label", "version_label", "priority", "timeout"),
    *("seed", "count", "frames_between", "path", "pace", "loop"),
)


class Parameters:
    """Parameters by name. Clients differ in the kinds that they send: 7 may come as any integer, or as the text "7".

    Raise InvalidArgument about parameters.NAME.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._values = {}
        for name, parameter in given.items():
            kind = parameter.WhichOneof("parameter_choice")
            if name in _IGNORED or name.startswith("triton_"):
                continue
            if name not in _KNOWN:
                raise InvalidArgument(f"parameters.{name}", f"is no parameter; known are {', '.join(_KNOWN)}")
            if kind is None:
                raise InvalidArgument(f"parameters.{name}", "has no value")
            self._values[name] = getattr(parameter, kind)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """Return a text; '' if it is not there."""
        value = self._values.get(name, "")
        if not isinstance(value, str):
            raise self.wrong(name, "must be a text")
        return value

    def number(self, name: str, most: int, default: int = 0) -> int:
        """Return an integer from 0 to `most`."""
        value = self._values.get(name, default)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.wrong(name, f"must be an integer from 0 to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value; False if it is not there."""
        value = self._values.get(name, False)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def wrong(self, name: str, rule: str) -> InvalidArgument:
        """Return the error that this parameter breaks a rule."""
        return InvalidArgument(f"parameters.{name}", f"is {self._values.get(name)!r}; {rule}")
