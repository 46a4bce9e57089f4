"""The models as a caller may see them: those that its token allows, and its own default."""

from collections.abc import Iterator
from contextlib import contextmanager

from progan_service.serving.errors import InvalidArgument, PermissionDenied
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import Model
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.watching.calls import Call
from progan_service.store.default import listed


class PermittedModels:
    """The catalog behind the rights of each caller. Used in the event loop only."""

    def __init__(self, catalog: ModelCatalog) -> None:
        self._catalog = catalog

    @contextmanager
    def use(self, call: Call, name: str, version: int = 0, label: str = "") -> Iterator[LoadedVersion]:
        """Keep the selected version loaded within the block, and note it for the account of the call.

        An empty name is the caller's default model. Raises PermissionDenied and what ModelCatalog.use raises.
        """
        with self._catalog.use(self._permitted(call, name), version, label, call.rights, call.owner) as loaded:
            call.model, call.version = loaded.name, loaded.number
            yield loaded

    def model(self, call: Call, name: str) -> Model:
        """Return a model, and note it for the account of the call.

        An empty name is the caller's default model. Raises PermissionDenied and what ModelCatalog.model raises.
        """
        model = self._catalog.model(self._permitted(call, name), call.rights)
        call.model = model.name
        return model

    def all(self, call: Call) -> list[Model]:
        """Return the models that the caller may use, sorted by name."""
        return [model for name, model in sorted(self._catalog.models.items()) if call.rights.may_use(name)]

    def default(self, call: Call) -> str:
        """Return the only model that the caller may use, else the default model of the server."""
        models = call.rights.models or ()
        return next(iter(models)) if len(models) == 1 else self._catalog.default

    def _permitted(self, call: Call, name: str) -> str:
        chosen = name or self.default(call)
        if call.rights.models is None or chosen in call.rights.models:
            return chosen
        models = listed(call.rights.models)
        if not chosen:
            several = f"{call.caller!r} may use several models: {models}; none of them is the default"
            raise InvalidArgument("model", f"is empty, and {several}")
        denied = f"{call.caller!r} may use these models only: {models}"
        raise PermissionDenied(denied if name else f"{denied}; the default is none of them, name one")
