"""Which model answers requests that name none."""

import logging
from collections.abc import Collection

from progan_service.serving.errors import InvalidArgument, Unavailable

log = logging.getLogger(__name__)


class DefaultModel:
    """The configured model, or the first that is alone in the store. It never changes: clients rely on it.

    name   empty until it is known
    """

    def __init__(self, configured: str) -> None:
        self.name = configured
        self._configured = bool(configured)
        self._warned = False

    def choose(self, models: Collection[str]) -> None:
        """Take the only model of the store if none was configured. Warn once if the store has another one.

        models   those of the store
        """
        if not self.name and len(models) == 1:
            (self.name,) = models
        alone = not self._configured and self.name and len(models) > 1
        missing = self._configured and self.name not in models
        if (alone or missing) and not self._warned:
            self._warned = True
            if missing:
                log.warning("the default model %s is not in the store yet; it holds: %s", self.name, listed(models))
            else:
                text = "model %s stays the default until the next start, which needs --model: there are several now: %s"
                log.warning(text, self.name, listed(models))

    def required(self, models: Collection[str]) -> str:
        """Return its name. Raises InvalidArgument or Unavailable while there is none."""
        if not self.name and models:
            raise InvalidArgument("model", f"is empty, and this server has several models: {listed(models)}")
        if not self.name:
            raise Unavailable("this server has no model yet: its store is empty")
        return self.name


def listed(models: Collection[str]) -> str:
    return ", ".join(sorted(models)) or "none"
