"""What a run is shown at positions of its endless shuffle: real images and their labels."""

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
    """The images uint8 [N, R, R, C] at the positions start ... start + count - 1, of which `share` takes N."""
    images = dataset.images(image_indices(seed, start, count, dataset.count)[share], resolution)
    if not mirror:
        return images
    return np.where(mirrored(seed, start, count)[share, None, None, None], images[:, :, ::-1], images)


def labels_of(dataset: Dataset, indices: NDArray[np.int64], label_size: int) -> NDArray[np.float32]:
    """Labels [N, label_size] of the images at `indices` [N]; 0 leaves the labels that a dataset may have out."""
    if not label_size or dataset.labels is None:
        return np.zeros((len(indices), 0), np.float32)
    return dataset.labels[indices]
