"""The labels of pictures, whatever they were read from, and what is refused as labels."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from progan_service.data.errors import DatasetError
from progan_service.label_kind import LabelKind
from progan_service.names import shown

MAX_LABELS = 2**16  # of a model
MAX_BYTES = 4 * 2**30  # of the label file, which training holds in memory
MAX_NAME = 100  # characters

_SHOWN = 20
_MISSING = ("", "nan")  # how an empty cell is written


@dataclass(frozen=True)
class Labels:
    """Labels in the order of the pictures.

    values   float32 [N, L]: one-hot rows for classes; 1 for attributes that hold and 0 for the others
    names    one per column: each different, 1 to 100 characters
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    kind: LabelKind

    def first(self, count: int) -> "Labels":
        """Return the labels of the first pictures."""
        return replace(self, values=self.values[:count])

    def summary(self) -> str:
        """Return a line such as "2 classes: cat (120), dog (80)", of up to 20 of them."""
        counts = self.values.sum(axis=0).astype(int)
        each = [f"{shown(name)} ({count})" for name, count in zip(self.names, counts, strict=True)][:_SHOWN]
        more = [f"… and {len(self.names) - _SHOWN} more"] if len(self.names) > _SHOWN else []
        return f"{len(self.names)} {self.kind}: {', '.join(each + more)}"


NO_LABELS = Labels(np.zeros((0, 0), np.float32), (), "classes")


class Faults:
    """What is wrong with labels, by the rule that is broken. The first 20 of each are named and all are counted."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._counts: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}

    def add(self, rule: str, what: str) -> None:
        """Note what breaks a rule, in words that can be printed."""
        self._counts[rule] += 1
        named = self._named.setdefault(rule, [])
        if len(named) < _SHOWN:
            named.append(what)

    def refuse(self) -> None:
        """Raise DatasetError if there are any."""
        if not self._counts:
            return
        lines = [f"{self._where}: cannot be used as labels:"]
        for rule, named in self._named.items():
            lines += [f"  {rule} ({self._counts[rule]}):", *(f"    {what}" for what in named)]
            if len(named) < self._counts[rule]:
                lines.append(f"    … and {self._counts[rule] - len(named)} more")
        raise DatasetError("\n".join(lines))


def of_classes(where: str, given: Sequence[str]) -> Labels:
    """Return one-hot labels of the names of classes [N]. Numbers are sorted as numbers. Raise DatasetError."""
    names = sorted(set(given), key=_number_first)
    checked_names(where, names)
    if len(names) < 2:
        raise DatasetError(f"{where}: all pictures have the class '{shown(names[0])}': labels need two or more")
    values = empty_values(where, len(given), len(names))
    columns = {name: column for column, name in enumerate(names)}
    values[np.arange(len(given)), [columns[name] for name in given]] = 1.0
    return Labels(values, tuple(names), "classes")


def of_attributes(where: str, names: Sequence[str], values: NDArray[np.float32]) -> Labels:
    """Return labels [N, L] of attributes. Raise DatasetError for names that cannot be."""
    return Labels(values, checked_names(where, names), "attributes")


def empty_values(where: str, pictures: int, labels: int) -> NDArray[np.float32]:
    """Return zeros [N, L]. Raise DatasetError for more than a label file may hold."""
    if labels > MAX_LABELS or 4 * pictures * labels > MAX_BYTES:
        raise DatasetError(
            f"{where}: {labels} different labels for {pictures} pictures: at most {MAX_LABELS} labels, and "
            f"{MAX_BYTES // 2**30} GiB of 4 bytes a picture and label, can be used"
        )
    return np.zeros((pictures, labels), np.float32)


def checked_names(where: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of labels. Raise DatasetError for empty, repeated, long and unprintable ones."""
    faults = Faults(where)
    for name, count in Counter(names).items():
        if not name:
            faults.add("labels without a name", f"column {names.index(name) + 1}")
        elif count > 1:
            faults.add("names that several labels have", shown(name))
        elif len(name) > MAX_NAME or not name.isprintable():
            faults.add(f"names that are no printable text of at most {MAX_NAME} characters", shown(name))
    faults.refuse()
    return tuple(names)


def classes_of(where: str, pictures: Sequence[str], given: Mapping[int, str], faults: Faults) -> Labels:
    """Return the labels of pictures whose classes are given by index. Raise DatasetError."""
    names = [tidy(given.get(index, "")) for index in range(len(pictures))]
    for picture, name in zip(pictures, names, strict=True):
        if name.lower() in _MISSING:
            faults.add("pictures without a label", shown(picture))
    faults.refuse()
    return of_classes(where, names)


def tidy(name: str) -> str:
    """Return a name in one of the ways in which Unicode can write it, without space around it."""
    return unicodedata.normalize("NFC", name).strip()


def _number_first(name: str) -> tuple[int, int, str]:
    is_number = name.isascii() and name.isdecimal() and len(name) < 20
    return (0, int(name), name) if is_number else (1, 0, name)
