"""Which reader of labels is meant, and what looks like labels although none are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from progan_service.data.errors import DatasetError
from progan_service.data.making.labels.cls import SUFFIX, labels_of_cls
from progan_service.data.making.labels.folders import labels_of_folders, look_like_classes
from progan_service.data.making.labels.labels import Labels
from progan_service.data.making.labels.stylegan import read_json
from progan_service.data.making.labels.table import read_table
from progan_service.host.faults import named
from progan_service.names import shown

Others = Mapping[str, Callable[[], bytes]]  # files of a source that are not named like pictures: names and contents

FOLDERS, CLS = "folders", "cls"
_SHOWN_NAMES = 5
_TABLES = (".csv", ".txt")


@dataclass(frozen=True)
class OpenLabels:
    """Labels that were read, before it is known which pictures there are.

    of      the paths of the pictures in the source -> their labels; raises DatasetError unless they fit
    files   the names of the files in the source that hold them
    """

    of: Callable[[Sequence[str]], Labels]
    files: frozenset[str] = frozenset()


def open_labels(asked: str, others: Others) -> OpenLabels:
    """Read labels.

    Args:
        asked: "folders", "cls", or a .csv, .txt or .json file: its path, or its name in the source.
        others: files of the source.

    Raises:
        DatasetError: the labels cannot be read.
        FileError: the file cannot be read.
    """
    match asked:
        case "folders":
            return OpenLabels(labels_of_folders)
        case "cls":
            classes = {name: read for name, read in others.items() if name.endswith(SUFFIX)}
            if not classes:
                raise DatasetError(f"labels are {CLS}, and there are no {SUFFIX} files")
            return OpenLabels(partial(labels_of_cls, classes=classes), frozenset(classes))
    suffix = PurePosixPath(asked).suffix.lower()
    if suffix not in (*_TABLES, ".json"):
        raise DatasetError(f"labels are '{shown(asked)}': must be {FOLDERS}, {CLS}, or a .csv, .txt or .json file")
    read = read_json if suffix == ".json" else read_table
    return OpenLabels(read(shown(asked), _content(asked, others)), frozenset({asked}))


def labels_in_sight(pictures: Sequence[str], others: Others) -> str:
    """Return a sentence about what looks like labels in a source, and the option that uses it; else ''."""
    for name in others:
        file = PurePosixPath(name).name.lower()
        if file == "dataset.json" or (file.startswith("list_attr") and file.endswith(_TABLES)):
            return f"{shown(name)} looks like labels: --labels {shown(name)} would use them"
    if any(name.endswith(SUFFIX) for name in others):
        return f"the {SUFFIX} files look like labels: --labels {CLS} would use them"
    if counts := look_like_classes(pictures):
        names = ", ".join(map(shown, sorted(counts)[:_SHOWN_NAMES])) + (", …" if len(counts) > _SHOWN_NAMES else "")
        return f"{len(counts)} folders look like classes ({names}): --labels {FOLDERS} would use them"
    return ""


def _content(asked: str, others: Others) -> bytes:
    """Return the content of a file at a path, or else of the source."""
    path = Path(asked)
    if path.is_file():
        with named(path):
            return path.read_bytes()
    if asked in others:
        return others[asked]()
    raise DatasetError(f"labels: no file {shown(asked)}, neither here nor in the source")
