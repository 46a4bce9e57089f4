"""What a caller may do: the models that it may use, and how many images it may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """How many images a caller may have.

    images_per_s     on average
    images_at_once   in one go, after a pause that was long enough
    """

    images_per_s: float
    images_at_once: int


@dataclass(frozen=True)
class Rights:
    """The rights of a caller.

    models   that it may use; None: all
    quota    None: as many images as the server makes
    """

    models: frozenset[str] | None = None
    quota: Quota | None = None

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


ALL_RIGHTS = Rights()
