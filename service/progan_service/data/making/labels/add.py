"""Adds labels to a dataset that was made without, or with others."""

from dataclasses import replace
from pathlib import Path

from progan_service.data.dataset import Dataset
from progan_service.data.making.image_names import read_image_names
from progan_service.data.making.labels.labels import Labels
from progan_service.data.making.labels.read import open_labels
from progan_service.data.making.records import write_labels
from progan_service.data.manifest import Manifest


def label_dataset(directory: Path, asked: str) -> Labels:
    """Write the labels of a dataset that `progan dataset build` made, in place of those that it may have.

    The dataset can be opened whenever this is interrupted.

    Args:
        directory: the dataset.
        asked: "folders", or a file, as for `open_labels`.

    Raises:
        DatasetError: there is no such dataset, or the labels cannot be read or do not fit its images.
        FileError: the directory cannot be written.
    """
    dataset = Dataset.open(directory)
    names = read_image_names(directory, dataset.count)
    labels = open_labels(asked, {}).of(names)
    manifest = dataset.manifest or Manifest(dataset.name, dataset.count, dataset.resolution, dataset.channels)
    manifest = replace(manifest, label=None, label_names=(), label_kind="classes")
    manifest.write(directory)  # no names fit any number of labels
    write_labels(directory, dataset.name, labels.values)
    replace(manifest, label_names=labels.names, label_kind=labels.kind).write(directory)
    return labels
