"""What can be wrong with a model store."""

from progan_service.errors import BadInputError, FileError


class ModelStoreError(BadInputError):
    """Something in the store is missing, damaged or misnamed; the message names it and the rule."""


class DamagedVersionError(ModelStoreError):
    """The files of a version are not what was published; while it is still being copied, not yet."""


class UnreadableError(FileError, DamagedVersionError):
    """A file of the store cannot be read, for lack of permission for instance. A server goes on with other versions."""
