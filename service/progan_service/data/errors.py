"""The one error of this package."""


class DatasetError(ValueError):
    """A dataset, or the source of one, that cannot be used: the message names the place, the value and the rule."""
