"""Which model answers requests that name none."""

import logging
from collections.abc import Collection

from progan_service.errors import sentence
from progan_service.serving.errors import InvalidArgument, Unavailable
from progan_service.store.default import DefaultChoice, listed
from progan_service.store.errors import ModelStoreError

log = logging.getLogger(__name__)

_TO_CHOOSE = "to choose one: progan models default NAME --store STORE"


class DefaultModel:
    """The configured model, else the one that the store names, else the first that was alone in the store.

    The last one does not change: clients rely on it. Used in the event loop only.
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured
        self._choice = DefaultChoice()
        self._alone = ""
        self._unreadable = ""  # why the store's choice could not be read, at the last poll
        self._warned = ""  # of what, at the last poll

    @property
    def name(self) -> str:
        """Return the name of the model; empty until it is known."""
        return self._configured or self._choice.model or self._alone

    def follow(self, found: DefaultChoice | ModelStoreError) -> None:
        """Take the choice of the store. If it cannot be read, that is logged once, and the last choice holds."""
        if isinstance(found, ModelStoreError):
            if sentence(found) != self._unreadable:
                meanwhile = f"{self.name} stays the default" if self.name else "it counts when it can be read"
                log.error("%s; %s", sentence(found), meanwhile)
            self._unreadable = sentence(found)
            return
        self._unreadable = ""
        if found.model and found.model != self._choice.model:
            if self._configured:
                log.info("default.json names %s; --model %s goes before it", found.model, self._configured)
            else:
                log.info("requests that name no model go to %s", found.model)
        self._choice = found

    def choose(self, models: Collection[str]) -> None:
        """Take the only model of the store if nobody has chosen one, and log a problem of the default once.

        models   those of the store
        """
        if not self.name and len(models) == 1:
            (self._alone,) = models
        warning = self._warning(models)
        if warning and warning != self._warned:
            log.warning(warning)
        self._warned = warning

    def required(self, models: Collection[str]) -> str:
        """Return its name. Raises InvalidArgument or Unavailable while there is none.

        models   those that the caller may know
        """
        if not self.name and models:
            choice = "none is the default (an operator chooses it: progan models default NAME)"
            raise InvalidArgument("model", f"is empty, and this server has several models: {listed(models)}; {choice}")
        if not self.name:
            raise Unavailable("this server has no model yet: its store is empty")
        return self.name

    def _warning(self, models: Collection[str]) -> str:
        """Return what an operator should know about the default, as a sentence; empty when all is well."""
        problem = DefaultChoice(self._configured or self._choice.model).problem(models)
        if not problem or self._configured or self._choice.model:
            return problem
        so_far = f"{self._alone} is used until the next start" if self._alone else "requests must name one"
        return f"{problem}; {so_far}; {_TO_CHOOSE}"
