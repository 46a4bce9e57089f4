"""Labels in a `dataset.json` of StyleGAN: {"labels": [["00000/img00000000.png", 3], ...]}."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from progan_service.data.errors import DatasetError
from progan_service.data.making.labels.labels import Faults, Labels, classes_of, empty_values, of_attributes
from progan_service.data.making.labels.pictures import Pictures
from progan_service.names import shown

_FORM = '{"labels": [["name.png", 3], ...]}'


def read_json(where: str, content: bytes) -> Callable[[Sequence[str]], Labels]:
    """Read a `dataset.json`, and return a function of the paths of pictures that returns their labels.

    Whole numbers are classes, lists of 0 and 1 attributes.

    Raises:
        DatasetError: it is no such file; the function raises it if the labels do not fit the pictures.
    """
    return partial(_labels, where, _pairs(where, content))


def _labels(where: str, pairs: Sequence[tuple[str, Any]], pictures: Sequence[str]) -> Labels:
    files = {f"entry {number}": name for number, (name, _) in enumerate(pairs, start=1)}
    labels = {f"entry {number}": label for number, (_, label) in enumerate(pairs, start=1)}
    faults = Faults(where)
    places = Pictures(pictures).matched(files, faults)
    given = {index: labels[place] for index, place in places.items()}
    if any(isinstance(label, list) for label in labels.values()):
        return _attributes(where, pictures, given, faults)
    for index, label in given.items():
        if type(label) is not int or label < 0:
            faults.add("labels that are no whole number from 0 on", f"{shown(pictures[index])}: {shown(repr(label))}")
    return classes_of(where, pictures, {index: str(label) for index, label in given.items()}, faults)


def _attributes(where: str, pictures: Sequence[str], given: Mapping[int, Any], faults: Faults) -> Labels:
    """Return attributes, named by the numbers of their columns."""
    length = next(len(label) for label in given.values() if isinstance(label, list)) if given else 0
    values = empty_values(where, len(pictures), length)
    for index, picture in enumerate(pictures):
        label = given.get(index)
        if index not in given:
            faults.add("pictures without a label", shown(picture))
        elif not isinstance(label, list) or len(label) != length or any(value not in (0, 1) for value in label):
            faults.add(f"labels that are no list of {length} zeros and ones", f"{shown(picture)}: {shown(repr(label))}")
        else:
            values[index] = label
    faults.refuse()
    return of_attributes(where, tuple(map(str, range(length))), values)


def _pairs(where: str, content: bytes) -> Sequence[tuple[str, Any]]:
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: is no JSON: {error}") from None
    pairs = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(pairs, list) or not pairs:
        raise DatasetError(f"{where}: holds no labels: {_FORM}, as StyleGAN's tools write them")
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DatasetError(f"{where}: entry {number} of its labels is no name and label: {_FORM}")
    return [(name, label) for name, label in pairs]
