"""The members of an archive by name: the last one of a name counts, and links lead to other members."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from progan_service.data.making.collection.files import LeftOut

_TO_NOTHING = "is a link to nothing in the archive"


@dataclass(frozen=True, slots=True)
class Link:
    """A member that stands for another one, by its name in the archive."""

    target: str

    @classmethod
    def hard(cls, target: str) -> "Link":
        return cls(posixpath.normpath(target))

    @classmethod
    def symbolic(cls, name: str, target: str) -> "Link":
        """Return the link in a member `name` to a target that is given from the folder of the link."""
        if target.startswith("/"):
            return cls("..")  # out of any archive
        return cls(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)))


class Members:
    """Collects the members of an archive: first `add` and `leave_out` all, then `resolved`."""

    def __init__(self) -> None:
        self._places: dict[str, Any] = {}  # a Link, or whatever the archive needs to read a file
        self._left_out: list[LeftOut] = []

    def add(self, name: str, place: Any) -> None:
        """Take a file, or a Link. A later member of the same name replaces an earlier one, as when it is unpacked."""
        name = posixpath.normpath(name)
        if _is_outside(name):
            self._left_out.append(LeftOut(name, "has a name that leads out of the archive"))
            return
        if name in self._places:
            self._left_out.append(LeftOut(name, "is replaced by a later file of the same name"))
        self._places[name] = place

    def leave_out(self, name: str, reason: str) -> None:
        self._left_out.append(LeftOut(posixpath.normpath(name), reason))

    def resolved(self) -> Iterator[tuple[str, Any] | LeftOut]:
        """Yield the name and place of each file, links as what they lead to, and what is left out."""
        yield from self._left_out
        folders: set[str] = set()
        for name, place in self._places.items():
            if not isinstance(place, Link):
                yield name, place
                continue
            place, folders = self._end(place), folders or self._folders()
            if not isinstance(place, Link):
                yield name, place
            elif _is_outside(place.target):
                yield LeftOut(name, "is a link that leads out of the archive")
            elif place.target in folders:
                yield LeftOut(name, "is a link to a folder that is read already")
            else:
                yield LeftOut(name, _TO_NOTHING)

    def _end(self, link: Link) -> Any:
        """Return what a chain of links ends at: a place, or the last link when it leads to nothing or in a loop."""
        passed = set()
        while link.target in self._places and link.target not in passed:
            passed.add(link.target)
            place = self._places[link.target]
            if not isinstance(place, Link):
                return place
            link = place
        return link

    def _folders(self) -> set[str]:
        folders = {"."}
        for name in self._places:
            while (name := posixpath.dirname(name)) and name not in folders:
                folders.add(name)
        return folders


def _is_outside(name: str) -> bool:
    return name == ".." or name.startswith("../")
