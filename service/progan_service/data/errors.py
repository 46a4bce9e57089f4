"""The error of a dataset."""

from progan_service.errors import BadInputError


class DatasetError(BadInputError):
    """A dataset or its source cannot be used. The message names the place, the value and the rule."""
