"""Files that live longer than a release: unknown keys are ignored, higher versions refused, types checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from progan_service.formats import FormatError, NewerFormatError, field_values, parse, unknown_values


@dataclass(frozen=True)
class Cake:
    """One field of every type that a format has."""

    name: str
    layers: int = 1
    weight_kg: float = 0.5
    vegan: bool = False
    note: str | None = None
    toppings: tuple[str, ...] = ()
    grams: Mapping[str, int] = field(default_factory=dict)
    by_layer: Mapping[int, float] = field(default_factory=dict)
    size: Literal["small", "large"] = "small"
    more: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, Any] = field(default_factory=dict)


def test_a_document_without_a_version_is_of_version_one() -> None:
    assert parse('{"name": "plum"}', newest=1) == {"name": "plum"}
    assert parse(b'{"name": "plum", "format_version": 1}', newest=2) == {"name": "plum", "format_version": 1}


def test_a_document_of_a_newer_release_is_refused_by_name() -> None:
    with pytest.raises(NewerFormatError) as refused:
        parse('{"format_version": 3}', newest=2)
    assert str(refused.value) == (
        "was written by a newer release (format_version 3; this release reads 2): upgrade progan-service to read it"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON: Expecting value"),
        (b"\xff\xfe", "is no JSON: "),
        ("[" * 100_000, "is nested too deep: must have at most 20 objects and lists within each other$"),
        ("[1]", r"holds \[1\]: must be an object of names and values$"),
        ('{"format_version": "1"}', "format_version is '1': must be a whole number from 1 on$"),
        ('{"format_version": true}', "format_version is True: must be a whole number from 1 on$"),
        ('{"format_version": 0}', "format_version is 0: must be a whole number from 1 on$"),
    ],
)
def test_what_is_no_document_is_refused(content: str | bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"^{message}"):
        parse(content, newest=1)


def test_values_have_the_types_of_their_fields() -> None:
    values = field_values(
        Cake,
        {
            "name": "plum",
            "weight_kg": 2,
            "note": None,
            "toppings": ["plums", "cream"],
            "grams": {"sugar": 100},
            "by_layer": {"1": 0.5, "2": 1},
            "more": {"any": ["thing"]},
        },
    )
    assert values == {
        "name": "plum",
        "weight_kg": 2,
        "note": None,
        "toppings": ("plums", "cream"),
        "grams": {"sugar": 100},
        "by_layer": {1: 0.5, 2: 1},
        "more": {"any": ["thing"]},
    }


def test_keys_of_a_newer_release_are_ignored_and_can_be_kept() -> None:
    document = {"format_version": 1, "name": "plum", "candles": 3, "unknown": "a key like any other"}
    assert field_values(Cake, document) == {"name": "plum"}
    assert unknown_values(Cake, document) == {"candles": 3, "unknown": "a key like any other"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name is 1: must be text"),
        ({"layers": "2"}, "layers is '2': must be a whole number"),
        ({"layers": 2.0}, "layers is 2.0: must be a whole number"),
        ({"layers": True}, "layers is True: must be a whole number"),
        ({"weight_kg": "heavy"}, "weight_kg is 'heavy': must be a number"),
        ({"vegan": 1}, "vegan is 1: must be true or false"),
        ({"note": 1}, "note is 1: must be text or null"),
        ({"toppings": "cream"}, "toppings is 'cream': must be a list"),
        ({"toppings": ["cream", 2]}, r"toppings\[1\] is 2: must be text"),
        ({"grams": ["sugar"]}, r"grams is \['sugar'\]: must be an object of names and values"),
        ({"grams": {"sugar": None}}, "grams.sugar is None: must be a whole number"),
        ({"by_layer": {"top": 1}}, "a name in by_layer is 'top': must be a whole number"),
    ],
)
def test_a_value_of_another_type_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=f"^{message}$"):
        field_values(Cake, {"name": "plum"} | change)


def test_the_object_that_a_field_belongs_to_is_named() -> None:
    with pytest.raises(FormatError, match=r"^cake\.layers is 'two': must be a whole number$"):
        field_values(Cake, {"name": "plum", "layers": "two"}, "cake")
    with pytest.raises(FormatError, match=r"^holds no cake\.name$"):
        field_values(Cake, {}, "cake")
    with pytest.raises(FormatError, match="^cake is None: must be an object of names and values$"):
        field_values(Cake, None, "cake")
