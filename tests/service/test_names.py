import os

import pytest

from progan_service.names import escaped, shown, unescaped

NAMES = {
    "photos/Ä, 猫 'a' \"b\".png": "photos/Ä, 猫 'a' \"b\".png",
    "a\nb\r\t\0.png": r"a\x0ab\x0d\x09\x00.png",
    "\x1b[31mred": r"\x1b[31mred",
    os.fsdecode(b"caf\xe9"): r"caf\xe9",
    r"C:\x41": r"C:\x5cx41",
    "\u202egnp.exe": r"\xe2\x80\xaegnp.exe",
    "\x85": r"\xc2\x85",
}


@pytest.mark.parametrize(("name", "text"), NAMES.items())
def test_a_name_is_written_as_text_and_can_be_had_back(name: str, text: str) -> None:
    assert escaped(name) == text
    assert unescaped(text) == name


def test_every_name_can_be_had_back() -> None:
    for first in range(256):
        name = os.fsdecode(bytes([first, 0x80, first, ord("\\"), first]))
        assert escaped(name).isprintable()
        assert unescaped(escaped(name)) == name


def test_a_long_name_is_cut_in_the_middle() -> None:
    assert shown("a" * 2000 + "b" * 2000) == "a" * 100 + " ... " + "b" * 100
    assert shown("a" * 200) == "a" * 200


def test_a_surrogate_that_stands_for_no_byte_is_written_too() -> None:
    assert escaped("\ud800") == r"\xed\xa0\x80"
