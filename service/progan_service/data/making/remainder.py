"""What of a collection is not in its dataset: counted by reason, and each named in a file if one is wanted."""

import csv
from collections import Counter
from operator import attrgetter
from pathlib import Path

from progan_service.data.errors import DatasetError
from progan_service.data.making.collection.files import LeftOut
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
        self._source, self._report = source, report
        self._write_report()

    def close(self, picture_count: int, skip_unusable: bool) -> None:
        """Write the report, and raise DatasetError unless pictures were found and all may be used."""
        self._write_report()
        if self.unusable and not skip_unusable:
            count = f"{len(self.unusable)} of {picture_count + len(self.unusable)} pictures cannot be used"
            advice = "mend or remove them, or leave them out (--skip-unusable)"
            raise DatasetError("\n  ".join([f"{self._source}: {count}: {advice}", *self.named()]))
        if not picture_count:
            kind = "no usable pictures" if self.unusable else "no pictures"
            found = self.summary() or ["it is empty"]
            raise DatasetError("\n  ".join([f"{self._source}: holds {kind}", *found]))

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
