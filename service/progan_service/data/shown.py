"""The real images and labels that a run shows at positions of its shuffle."""

import numpy as np
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.data.order import image_indices, mirrored


def images_shown_at(
    dataset: Dataset,
    resolution: int,
    *,
    seed: int,
    start: int,
    count: int,
    mirror: bool,
    share: slice = slice(None),
) -> NDArray[np.uint8]:
    """Return images uint8 [N, R, R, C]: the `share` of the positions start ... start + count - 1."""
    images = dataset.images(image_indices(seed, start, count, dataset.count)[share], resolution)
    if not mirror:
        return images
    return np.where(mirrored(seed, start, count)[share, None, None, None], images[:, :, ::-1], images)


def labels_of(dataset: Dataset, indices: NDArray[np.int64], label_size: int) -> NDArray[np.float32]:
    """Return the labels [N, label_size] of the images at `indices` [N]. A size of 0 ignores those of the dataset."""
    if not label_size or dataset.labels is None:
        return np.zeros((len(indices), 0), np.float32)
    return dataset.labels[indices]
