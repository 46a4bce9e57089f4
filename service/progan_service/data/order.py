"""The endless, seeded shuffle of a dataset, as pure functions of positions. NumPy only.

A position is a number of images shown, so a resumed run continues the same sequence.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError

# The second word of the Philox key separates these streams from each other and from the latents of the same seed.
_SHUFFLE = 1 << 62
_MIRROR = 1 << 63
_DRAW = 5 << 60


def image_indices(seed: int, start: int, count: int, dataset_size: int) -> NDArray[np.int64]:
    """Return the indices [count] of the images at the positions start ... start + count - 1.

    Position i belongs to epoch i // dataset_size. An epoch shows every image once, in an order that is a pure function
    of the seed, the epoch and the size.

    Raises:
        DatasetError: a seed outside [0, 2^64), a negative start or count, or a size below 1.
    """
    _check(seed, start, count)
    _check_size(dataset_size)
    pieces = [np.empty(0, np.int64)]
    position, end = start, start + count
    while position < end:
        epoch, first = divmod(position, dataset_size)
        last = min(dataset_size, first + end - position)
        pieces.append(_permutation(seed, epoch, dataset_size)[first:last])
        position += last - first
    return np.concatenate(pieces)


def mirrored(seed: int, start: int, count: int) -> NDArray[np.bool_]:
    """Return fair coin flips [count] for positions from `start` on, each a pure function of (seed, position).

    Raises:
        DatasetError: a seed outside [0, 2^64), or a negative start or count.
    """
    _check(seed, start, count)
    return _words(seed, _MIRROR, start, count) >= np.uint64(2**63)


def drawn(seed: int, start: int, count: int, dataset_size: int) -> NDArray[np.int64]:
    """Return independent random indices [count] in [0, dataset_size), each a pure function of (seed, position).

    Raises:
        DatasetError: a seed outside [0, 2^64), a negative start or count, or a size below 1.
    """
    _check(seed, start, count)
    _check_size(dataset_size)
    uniform = (_words(seed, _DRAW, start, count) >> np.uint64(11)) * 2.0**-53  # 0 <= u < 1
    return (uniform * dataset_size).astype(np.int64)


def _words(seed: int, stream: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return one random word per position: the first of the four that a Philox counter gives."""
    words: NDArray[np.uint64] = np.random.Philox(key=_key(seed, stream), counter=start).random_raw(4 * count)
    return words[::4]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, dataset_size: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=_key(seed, _SHUFFLE + epoch)))
    order = generator.permutation(dataset_size)
    order.flags.writeable = False
    return order


def _key(seed: int, word: int) -> NDArray[np.uint64]:
    return np.array([seed, word], np.uint64)


def _check(seed: int, start: int, count: int) -> None:
    if not 0 <= seed < 2**64:
        raise DatasetError(f"seed is {seed}: it must lie in [0, 2^64)")
    if start < 0 or count < 0:
        raise DatasetError(f"start is {start} and count is {count}: neither may be negative")


def _check_size(dataset_size: int) -> None:
    if dataset_size < 1:
        raise DatasetError(f"dataset_size is {dataset_size}: an order needs at least one image")
