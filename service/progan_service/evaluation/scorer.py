"""Scorers: Python functions of a user's own that judge images."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from progan_service.errors import ConfigError

Scorer = Callable[[NDArray[np.uint8]], Mapping[str, object]]


def scored(images: NDArray[np.uint8], scorer: Scorer) -> dict[str, NDArray[np.float64]]:
    """Return scores [N] of images by name. Raises ConfigError if they are anything else."""
    found = scorer(images)
    if not isinstance(found, Mapping) or not found:
        raise ConfigError(f"the scorer returns {type(found).__name__}: must be a dict, name -> {len(images)} numbers")
    scores = {str(name): np.asarray(values) for name, values in found.items()}
    for name, values in scores.items():
        if values.shape != (len(images),) or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ConfigError(f"the scorer's {name} must be {len(images)} finite numbers, one for each image")
    return {name: values.astype(np.float64) for name, values in scores.items()}
