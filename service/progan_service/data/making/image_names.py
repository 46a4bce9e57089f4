"""`files.csv` in a dataset: the file of each image, in the order of the records, so that labels can be added later."""

import csv
from collections.abc import Iterable
from pathlib import Path

from progan_service.data.errors import DatasetError
from progan_service.host.faults import named
from progan_service.names import escaped, unescaped

FILE_NAME = "files.csv"


def write_image_names(directory: Path, names: Iterable[str]) -> None:
    """Write the names of files, relative to their source."""
    with (directory / FILE_NAME).open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("index", "file"))
        table.writerows((index, escaped(name)) for index, name in enumerate(names))


def read_image_names(directory: Path, count: int) -> list[str]:
    """Return the names of the files of `count` images. Raise DatasetError for a missing list, or one of others."""
    path = directory / FILE_NAME
    if not path.exists():
        raise DatasetError(f"{path}: is missing: only `progan dataset build` notes the file of each image")
    try:
        with named(path), path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: is no list of files: {error}") from None
    indices = [line[:1] for line in lines]
    if indices != [["index"], *([str(index)] for index in range(count))] or any(len(line) != 2 for line in lines):
        raise DatasetError(f"{path}: must have the columns index,file, and a line for each of {count} images in order")
    return [unescaped(name) for _, name in lines[1:]]
