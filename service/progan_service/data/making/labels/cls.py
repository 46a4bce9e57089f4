"""Labels in `.cls` files beside the pictures, as webdataset has them: 000001.cls holds the class of 000001.jpg."""

from collections.abc import Callable, Mapping, Sequence

from progan_service.data.making.labels.labels import Faults, Labels, classes_of, tidy
from progan_service.names import shown

SUFFIX = ".cls"


def labels_of_cls(pictures: Sequence[str], classes: Mapping[str, Callable[[], bytes]]) -> Labels:
    """Return the classes of pictures.

    Args:
        pictures: their paths.
        classes: the .cls files: their paths and contents.

    Raises:
        DatasetError: a picture has no class, or a class no picture.
    """
    where, faults = f"the {SUFFIX} files", Faults(f"the {SUFFIX} files")
    index_of = {_key(picture): index for index, picture in enumerate(pictures)}
    given: dict[int, str] = {}
    for name, read in classes.items():
        index = index_of.get(_key(name))
        if index is None:
            faults.add("files without a picture", shown(name))
        else:
            given[index] = _text(name, read(), faults)
    return classes_of(where, pictures, given, faults)


def _key(name: str) -> str:
    """Return the part of a name that the files of one picture share: all before the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".", 1)[0]


def _text(name: str, content: bytes, faults: Faults) -> str:
    try:
        return tidy(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        faults.add("files that are no text", shown(name))
        return name
