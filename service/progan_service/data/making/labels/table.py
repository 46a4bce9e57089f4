"""Labels in a table: a CSV of `file,label,...`, or CelebA's list_attr_celeba.txt."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from progan_service.data.errors import DatasetError
from progan_service.data.making.labels.labels import Faults, Labels, classes_of, empty_values, of_attributes, tidy
from progan_service.data.making.labels.pictures import Pictures
from progan_service.decoding.kinds import is_picture
from progan_service.names import shown

_HOLDS, _HOLDS_NOT, _MINUS = ("1", "1.0", "true"), ("0", "0.0", "false"), ("-1", "-1.0")
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class _Table:
    """The names of the columns without the first one; the file and the values of each line, by its place."""

    columns: tuple[str, ...]
    files: dict[str, str]
    values: dict[str, Sequence[str]]


def read_table(where: str, content: bytes) -> Callable[[Sequence[str]], Labels]:
    """Read a table, and return a function of the paths of pictures that returns their labels.

    One column of names are classes, several of 0 and 1, or of -1 and 1, attributes.

    Raises:
        DatasetError: it is no such table; the function raises it if the table does not fit the pictures.
    """
    return partial(_labels, where, _table(where, content))


def _labels(where: str, table: _Table, pictures: Sequence[str]) -> Labels:
    faults = Faults(where)
    places = Pictures(pictures).matched(table.files, faults)
    if len(table.columns) == 1:
        return classes_of(where, pictures, {index: table.values[place][0] for index, place in places.items()}, faults)
    return _attributes(where, table, pictures, places, faults)


def _attributes(where: str, table: _Table, pictures: Sequence[str], places: dict[int, str], faults: Faults) -> Labels:
    values, kinds = empty_values(where, len(pictures), len(table.columns)), set()
    for index, picture in enumerate(pictures):
        if index not in places:
            faults.add("pictures without a label", shown(picture))
            continue
        place = places[index]
        for column, cell in enumerate(table.values[place]):
            text = cell.strip().lower()
            if text in _HOLDS:
                values[index, column] = 1.0
            elif text in _HOLDS_NOT or text in _MINUS:
                kinds.add(text in _MINUS)
            else:
                fault = f"{place}: {shown(table.columns[column])} is '{shown(cell)}'"
                faults.add("values that are not 0 or 1, or -1 or 1 (one column of names would be classes)", fault)
    faults.refuse()
    if len(kinds) > 1:
        raise DatasetError(f"{where}: has values of 0 and of -1: write an attribute that does not hold in one way")
    return of_attributes(where, table.columns, values)


def _table(where: str, content: bytes) -> _Table:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: is no UTF-8 text ({error}): save it as UTF-8") from None
    first = text.split("\n", 1)[0].strip()
    return _celeba(where, text) if re.fullmatch(r"[0-9]{1,18}", first) else _csv(where, text, first)


def _celeba(where: str, text: str) -> _Table:
    """Read the number of pictures, the names of the attributes, and a line for each picture, separated by spaces."""
    count, *lines = text.splitlines()
    cells = [(number, line.split()) for number, line in enumerate(lines, start=2) if line.strip()]
    if not cells or len(cells) - 1 != int(count):
        raise DatasetError(
            f"{where}: promises {count.strip()} pictures and lists {max(0, len(cells) - 1)}: is it whole?"
        )
    (_, columns), *rows = cells
    return _checked(where, columns, rows)


def _csv(where: str, text: str, first: str) -> _Table:
    for separator, name in _SEPARATORS.items():
        if separator in first and "," not in first:
            raise DatasetError(f"{where}: its columns are separated by {name}: save it with commas")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DatasetError(f"{where}: line {reader.line_num} is no CSV: {error}") from None
    header = rows[0][1] if rows else []
    if len(header) < 2 or not header[0].strip() or is_picture(header[0], b""):
        raise DatasetError(
            f"{where}: its first line is '{shown(first)}': it must name the columns, that of the files first, as in "
            "file,label"
        )
    return _checked(where, header[1:], rows[1:])


def _checked(where: str, columns: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]]) -> _Table:
    for number, row in rows:
        if len(row) != len(columns) + 1:
            raise DatasetError(
                f"{where}: line {number} has {len(row)} cells, and {len(columns) + 1} columns have names"
            )
    return _Table(
        tuple(map(tidy, columns)),
        {f"line {number}": row[0].strip() for number, row in rows},
        {f"line {number}": row[1:] for number, row in rows},
    )
