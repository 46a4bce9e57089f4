"""What can be wrong with a model store."""

import logging
from pathlib import Path

from progan_service.errors import BadInputError, FileError

log = logging.getLogger(__name__)


class ModelStoreError(BadInputError):
    """Something in the store is missing, damaged or misnamed; the message names it and the rule."""


class DamagedVersionError(ModelStoreError):
    """The files of a version are not what was published; while it is still being copied, not yet."""


class UnreadableError(FileError, DamagedVersionError):
    """A file of the store cannot be read, for lack of permission for instance. A server goes on with other versions."""


class NoAnswerError(UnreadableError):
    """A read of the store takes too long, as it does on a network mount that is gone. It goes on aside."""


def as_store_error(path: Path | str, error: Exception) -> ModelStoreError:
    """Return what went wrong at a path of the store as an error of the store.

    An error that nobody thought of is logged with its trace: one path must not keep a server from all the others.
    """
    if isinstance(error, ModelStoreError):
        return error
    if isinstance(error, OSError):
        return UnreadableError(f"{path}: cannot be read: {error.strerror}" if error.strerror else str(error))
    log.error("%s: cannot be read", path, exc_info=error)
    return DamagedVersionError(f"{path}: cannot be read; the log has the reason ({type(error).__name__})")
