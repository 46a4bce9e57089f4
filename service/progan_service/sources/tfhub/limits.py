"""What a TF Hub module may take, and the error that every module of this folder raises."""

from collections.abc import Callable
from dataclasses import dataclass

from progan_service.errors import BadInputError

BY_HAND = "download the .tar.gz of the module in a browser and give that file"

Progress = Callable[[str, int, int], None]  # the stage, bytes so far, and bytes in all or 0 while that is unknown


class HubModuleError(BadInputError):
    """A TF Hub module cannot be fetched or used; the message names it, the rule and what to do."""


@dataclass(frozen=True)
class Limits:
    """The limits for fetching a module. The largest generator of the paper has 92 MB of weights.

    total_bytes   size of all files, unpacked
    files         number of files and directories
    idle_s        longest time without new data, in seconds
    """

    total_bytes: int = 2 * 2**30
    files: int = 1000
    idle_s: float = 120.0


DEFAULT_LIMITS = Limits()


def check_limits(source: object, count: int, size: int, limits: Limits) -> None:
    if count > limits.files:
        raise HubModuleError(f"{source}: has more than {limits.files} files and directories; a module has a handful")
    if size > limits.total_bytes:
        raise HubModuleError(
            f"{source}: takes more than {limits.total_bytes} bytes unpacked, the most that a module may have"
        )
