"""The pictures that the lines of a label file name."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath

from progan_service.data.making.labels.labels import Faults
from progan_service.names import shown


class Pictures:
    """Pictures by their path in the source, or by the end of it: 000001.jpg for img_align_celeba/000001.jpg, say.

    The suffix may be left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._by_path = {_plain(name): index for index, name in enumerate(names)}

    def found(self, name: str) -> list[int]:
        """Return the indices of all pictures that a name may mean."""
        exact, path = _plain(name), _plain(name).replace("\\", "/").removeprefix("./")
        for whole in (exact, path):
            if whole in self._by_path:
                return [self._by_path[whole]]
        file = PurePosixPath(path).name
        ends = [index for index in self._by_file.get(file, ()) if self._path(index).endswith(f"/{path}")]
        return ends or [index for index in self._by_stem.get(file, ()) if self._stem(index).endswith(f"/{path}")]

    def matched(self, lines: Mapping[str, str], faults: Faults) -> dict[int, str]:
        """Return the place of its line by the index of each picture, of names by the places of their lines.

        Adds to `faults` the lines that name no picture or several, or one that another line has.
        """
        places: dict[int, str] = {}
        for place, name in lines.items():
            found = self.found(name)
            if not found:
                faults.add("lines whose picture is not there", f"{place}: {shown(name)}")
            elif len(found) > 1:
                both = ", ".join(shown(self.names[index]) for index in found[:2])
                faults.add("lines that may mean several pictures: give their paths", f"{place}: {shown(name)} ({both})")
            elif found[0] in places:
                faults.add("lines of a picture that has one already", f"{place}: {shown(name)} ({places[found[0]]})")
            else:
                places[found[0]] = place
        return places

    @cached_property
    def _by_file(self) -> dict[str, list[int]]:
        return self._indexed([PurePosixPath(path).name for path in self._by_path])

    @cached_property
    def _by_stem(self) -> dict[str, list[int]]:
        return self._indexed([PurePosixPath(path).stem for path in self._by_path])

    def _indexed(self, keys: Sequence[str]) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for index, key in zip(self._by_path.values(), keys, strict=True):
            indices.setdefault(key, []).append(index)
        return indices

    def _path(self, index: int) -> str:
        return f"/{_plain(self.names[index])}"

    def _stem(self, index: int) -> str:
        return str(PurePosixPath(self._path(index)).with_suffix(""))


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
