"""What of a collection is not in its dataset: counted by reason, and each named in a file if one is wanted."""

import csv
from collections import Counter
from operator import attrgetter
from pathlib import Path

from progan_service.data.dataset import is_dataset
from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import LeftOut
from progan_service.data.making.conversion import TooSmallError
from progan_service.host.files import replaced
from progan_service.names import escaped, shown

SHOWN = 20  # names in a message


class Remainder:
    """Collects what is left out.

    left_out   what is no picture, such as texts and hidden files
    unusable   pictures that are broken or too small
    """

    def __init__(self, source: Path, report: Path | None) -> None:
        """Also begin the report, so that a place where none can be written is known before the work."""
        self.left_out: list[LeftOut] = []
        self.unusable: list[LeftOut] = []
        self._small: list[TooSmallError] = []
        self._source, self._report = source, report
        self._write_report()

    def refuse_small(self, name: str, error: TooSmallError) -> None:
        """Note a picture that is too small."""
        self.unusable.append(LeftOut(name, str(error)))
        self._small.append(error)

    def close(self, picture_count: int, skip_unusable: bool) -> None:
        """Write the report, and raise DatasetError unless pictures were found and all may be used."""
        self._write_report()
        if self.unusable and not skip_unusable:
            count = f"{len(self.unusable)} of {picture_count + len(self.unusable)} pictures cannot be used"
            advice = "mend or remove them, or leave them out (--skip-unusable)"
            if self._small:
                are_all = self._are_all_small(picture_count)
                about_small = self._about_small(are_all=are_all)
                advice = about_small if are_all else f"{advice}; {about_small}"
            raise DatasetError("\n  ".join([f"{self._source}: {count}: {advice}", *self.named()]))
        if not picture_count:
            kind = "no usable pictures" if self.unusable else "no pictures"
            if self._are_all_small(picture_count):
                kind += f": {self._about_small(are_all=True)}"
            elif not self.unusable and is_dataset(self._source):
                kind += f", but a dataset: train on it as it is (`progan train --data {self._source}`)"
            found = self.summary() or ["it is empty"]
            raise DatasetError("\n  ".join([f"{self._source}: holds {kind}", *found]))

    def _are_all_small(self, picture_count: int) -> bool:
        return not picture_count and 0 < len(self._small) == len(self.unusable)

    def _about_small(self, *, are_all: bool) -> str:
        width, height = max(self._small, key=attrgetter("side")).size
        who = "all are" if are_all else "1 of them is" if len(self._small) == 1 else f"{len(self._small)} of them are"
        return (
            f"{who} too small, the largest {width}x{height}: take small ones by a lower --resolution, "
            "--small enlarge or --small pad"
        )

    def named(self) -> list[str]:
        """Return a line for each unusable picture, up to 20, and one that says how many more there are."""
        lines = [f"{shown(picture.name)}: {picture.reason}" for picture in self.unusable[:SHOWN]]
        more = len(self.unusable) - len(lines)
        if more:
            lines.append(f"… and {more} more: {self._where()}")
        return lines

    def summary(self) -> list[str]:
        """Return lines of text: how many names were left out for each reason, and those of unusable pictures."""
        counts = Counter(entry.reason for entry in self.left_out)
        lines = [f"{count} left out: {reason}" for reason, count in counts.most_common()]
        if self.unusable:
            lines += [f"{len(self.unusable)} left out: cannot be used", *(f"  {line}" for line in self.named())]
        return lines

    def _where(self) -> str:
        return f"see {self._report}" if self._report else "--report FILE names all"

    def _write_report(self) -> None:
        if not self._report:
            return
        with replaced(self._report) as path, path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(("file", "reason"))
            for entry in sorted((*self.left_out, *self.unusable), key=attrgetter("name")):
                table.writerow((escaped(entry.name), escaped(entry.reason)))
