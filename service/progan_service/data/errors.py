"""The error of a dataset, or of what a dataset is made of."""

from progan_service.errors import BadInputError


class DatasetError(BadInputError):
    """A dataset or its source cannot be used. The message names the place, the value and the rule."""


class PictureError(Exception):
    """A picture cannot be used. The message is the reason, and follows the name of its file."""
