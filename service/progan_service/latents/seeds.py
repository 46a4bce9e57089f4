"""Latents from seeds, by the Box-Muller transform of Philox random numbers. Pure functions over arrays.

The algorithm is part of the wire contract (`image_generator.proto`, algorithm version 1): it must not change.
"""

import numpy as np
from numpy.typing import NDArray


def latents_from_seeds(seeds: NDArray[np.uint64], latent_size: int) -> NDArray[np.float32]:
    """Return the latents [N, latent_size] of N seeds: each row ~ N(0, I), a pure function of its seed and the size."""
    words = np.empty((len(seeds), latent_size + latent_size % 2), np.uint64)
    for row, seed in zip(words, seeds, strict=True):
        row[:] = np.random.Philox(key=np.array([seed, 0], np.uint64)).random_raw(words.shape[1])
    bits = words >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((bits[:, 0::2].astype(np.float64) + 1.0) * 2.0**-53))
    angle = 2.0 * np.pi * (bits[:, 1::2].astype(np.float64) * 2.0**-53)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(words.shape)[:, :latent_size].astype(np.float32)


def seed_range(first_seed: int, count: int) -> NDArray[np.uint64]:
    """Return `count` consecutive seeds from `first_seed` on, modulo 2^64."""
    return np.uint64(first_seed) + np.arange(count, dtype=np.uint64)
