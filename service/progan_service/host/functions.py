"""Python functions of a user's own, named on the command line."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from progan_service.errors import ConfigError


def load_function(option: str, text: str) -> Callable[..., Any]:
    """Return the function that MODULE:FUNCTION names. Modules of the working directory are found.

    option   that gives the name, for messages
    Raises ConfigError when there is no such module or function.
    """
    module, _, function = text.partition(":")
    if not module or not function:
        raise ConfigError(f"{option} is {text!r}: must be MODULE:FUNCTION")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{option} is {text!r}: {error}") from None
    if not callable(found):
        raise ConfigError(f"{option} is {text!r}: the module has no function {function!r}")
    return found  # type: ignore[no-any-return]
