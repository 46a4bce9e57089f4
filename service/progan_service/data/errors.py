"""The one error of this package."""

from progan_service.errors import BadInputError


class DatasetError(BadInputError):
    """A dataset, or the source of one, that cannot be used: the message names the place, the value and the rule."""
