"""Whether a version fits into memory beside the versions that are loaded. Pure; needs no TensorFlow.

- What a version needs is measured when it is loaded: its weights and its largest batch.
- Before its first load it is estimated: its files, nearly all of which are weights, and one image.
- While a version takes over from another one, both are loaded. A version that does not fit beside the one that serves
  is refused, and the other one goes on.
- Some memory stays free for calls.
"""

from progan_service.host.memory import Bound
from progan_service.store.errors import ModelStoreError

FOR_CALLS_BYTES = 64 * 2**20

# Input and output of a layer in float32. With R x R pixels a layer of the paper has 8192 / R channels.
_LAYER_BYTES_PER_RESOLUTION = 2 * 4 * 8192


class NoRoomError(ModelStoreError):
    """A version does not fit into memory beside the versions that are loaded. It may fit when others are gone."""


def estimated_bytes(files_bytes: int, resolution: int) -> int:
    """Return what a version with files of this size needs at least."""
    return files_bytes + resolution * _LAYER_BYTES_PER_RESOLUTION


def require_room(needed_bytes: int, bound: Bound | None) -> None:
    """Raise NoRoomError unless so much memory is free."""
    if bound and not fits(needed_bytes, bound):
        free_bytes = max(0, bound.free_bytes - FOR_CALLS_BYTES)
        raise NoRoomError(
            f"it needs {_text(needed_bytes)} of memory, and {_text(free_bytes)} are free beside what is loaded "
            f"({bound.name} is {_text(bound.limit_bytes)}; {_text(FOR_CALLS_BYTES)} of it stay free for calls)"
        )


def fits(needed_bytes: float, bound: Bound | None) -> bool:
    return bound is None or needed_bytes + FOR_CALLS_BYTES <= bound.free_bytes


def _text(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"
