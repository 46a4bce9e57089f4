"""TODO"""

from progan_service.errors import BadInputError


class ModelStoreError(BadInputError):
    """Something in the store is missing, damaged or misnamed; the message names it and the rule."""


class DamagedVersionError(ModelStoreError):
    """The files of a version are not what was published; while it is still being copied, not yet."""
