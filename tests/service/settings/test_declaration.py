"""One declaration of a setting is enough: its flag, variable, file key, help and validation are made from it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from progan_service.checks import above, at_least
from progan_service.errors import ConfigError
from progan_service.settings.field import REQUIRED, Settings, setting
from progan_service.settings.manual import add_settings, given_settings
from progan_service.settings.source import Sourced, read_settings


@dataclass(frozen=True)
class Lamp(Settings):
    brightness: int = setting(40, "brightness in lumens", at_least(1), group="lamp")


@dataclass(frozen=True)
class Kiln(Settings):
    """The settings of a kiln: all that a new one takes is a field."""

    glaze: Literal["matt", "gloss"] = setting("matt", "finish of the pots", group="pots")
    shelves: tuple[int, ...] = setting((1, 2), "numbers of the shelves in use")
    fan: bool = setting(True, "move the air")
    hold_s: float = setting(30, "seconds to hold the heat", above(0), group="heat")
    heat: Mapping[int, float] = setting({4: 900}, "heat by size of the pots", above(0))
    diary: Path | None = setting(None, "file to write to", default_help="no diary")
    code: str = setting("", "code of the door", secret=True)
    lamp: Lamp = field(default_factory=Lamp)


def parsed(*flags: str) -> dict[str, Any]:
    command = argparse.ArgumentParser("kiln", exit_on_error=False)
    add_settings(command, Kiln)
    return given_settings(command.parse_args(flags), Kiln)


def read(*flags: str, file: Path | None = None, **environment: str) -> Sourced[Kiln]:
    return read_settings(Kiln, flags=parsed(*flags), environment=environment, file=file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kiln.toml"


def test_a_field_has_a_flag() -> None:
    flags = ["--glaze", "gloss", "--shelves", "3,4", "--no-fan", "--hold-s", "1.5", "--heat", "4:800,8:850"]
    assert read(*flags, "--diary", "d.txt", "--brightness", "5").config == Kiln(
        "gloss", (3, 4), False, 1.5, {4: 800, 8: 850}, Path("d.txt"), "", Lamp(5)
    )


def test_a_field_has_a_variable() -> None:
    given = read(PROGAN_GLAZE="gloss", PROGAN_SHELVES="3", PROGAN_FAN="False", PROGAN_HEAT="700", PROGAN_BRIGHTNESS="5")
    assert given.config == Kiln("gloss", (3,), False, heat={4: 700}, lamp=Lamp(5))


def test_a_field_has_a_key_in_the_file(file: Path) -> None:
    file.write_text(
        "glaze = 'gloss'\nshelves = [3]\nfan = false\nhold_s = 2\nbrightness = 5\n[heat]\n4 = 800\n8 = 850.0\n"
    )
    assert read(file=file).config == Kiln("gloss", (3,), False, 2, {4: 800, 8: 850}, lamp=Lamp(5))


def test_a_field_has_its_lines_on_the_help_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = argparse.ArgumentParser("kiln", add_help=False)
    add_settings(command, Kiln)
    assert command.format_help().split("\n\n", 1)[1] == (
        "pots:\n"
        "  --glaze {matt,gloss}  finish of the pots (default: matt)\n"
        "  --shelves N,N,...     numbers of the shelves in use (default: 1,2)\n"
        "  --fan, --no-fan       move the air (default: true)\n"
        "\n"
        "heat:\n"
        "  --hold-s S            seconds to hold the heat (default: 30)\n"
        "  --heat X              heat by size of the pots (default: 900)\n"
        "  --diary FILE          file to write to (default: no diary)\n"
        "  --code TEXT           code of the door\n"
        "\n"
        "lamp:\n"
        "  --brightness N        brightness in lumens (default: 40)\n"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"glaze": "rough"}, "glaze is 'rough': must be matt or gloss"),
        ({"hold_s": 0}, "hold_s is 0: must be above 0"),
        ({"hold_s": float("nan")}, "hold_s is nan: must be above 0"),
        ({"heat": {8: 900}}, "heat is {8: 900}: must give a value for resolution 4"),
        ({"heat": {4: 900, 6: 900}}, "heat resolution is 6: must be a power of two"),
        ({"heat": {4: 900, 8: -1}}, "heat at 8 is -1: must be above 0"),
    ],
)
def test_a_field_is_checked_whoever_makes_the_object(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Kiln(**values)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        ("PROGAN_HOLD_S", "long", "must be a number"),
        ("PROGAN_HOLD_S", "-1", "must be above 0"),
        ("PROGAN_BRIGHTNESS", "1.5", "must be a whole number"),
        ("PROGAN_BRIGHTNESS", "0", "must be 1 or more"),
        ("PROGAN_FAN", "yes", "must be true or false"),
        ("PROGAN_SHELVES", "1;2", "must be whole numbers, such as 1,4,16"),
        ("PROGAN_HEAT", "4:900,8", "must be a number, or one by resolution such as 4:32,16:16"),
        ("PROGAN_HEAT", "4:900,4:800", "must be a number, or one by resolution such as 4:32,16:16"),
        ("PROGAN_HEAT", "4:900,6:800", "must be a number, or one by resolution such as 4:32,16:16"),
    ],
)
def test_a_wrong_text_is_refused_by_the_name_of_its_place(variable: str, text: str, rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(**{variable: text})
    shown = text if rule in ("must be above 0", "must be 1 or more") else repr(text)
    assert str(refused.value) == f"{variable} is {shown}: {rule}"


def test_an_empty_path_is_not_the_current_directory(file: Path) -> None:
    file.write_text("diary = ''")
    with pytest.raises(ConfigError, match=f"^{file}: diary is '': must be a path$"):
        read(file=file)
    with pytest.raises(argparse.ArgumentError, match="must be a path; got ''"):
        parsed("--diary", "")


def test_a_wrong_value_in_a_table_is_refused_by_the_name_of_its_place() -> None:
    with pytest.raises(ConfigError, match="^PROGAN_HEAT at 8 is -1: must be above 0$"):
        read(PROGAN_HEAT="4:900,8:-1")


def test_a_secret_appears_in_no_message(file: Path) -> None:
    given = read("--code", "1234")
    assert given.settings["code"] == {"value": "***", "from": "flag"}
    assert str(given) == "code=*** (flag); the rest by default"
    assert given.config.code == "1234"
    file.write_text("code = 1234")
    with pytest.raises(ConfigError, match=r"kiln.toml: code is \*\*\*: must be text$"):
        read(file=file)


def test_two_settings_of_one_name_are_refused_when_they_are_declared() -> None:
    with pytest.raises(TypeError, match="^Cellar: more than one setting has the name brightness$"):

        @dataclass(frozen=True)
        class Cellar(Settings):
            brightness: int = setting(7, "brightness of the door")
            lamp: Lamp = field(default_factory=Lamp)

    with pytest.raises(TypeError, match="^Attic: more than one setting has the name brightness$"):

        @dataclass(frozen=True)
        class Attic(Lamp):
            other: Lamp = field(default_factory=Lamp)

    with pytest.raises(TypeError, match="^Hall: more than one setting has the name brightness$"):

        @dataclass(frozen=True)
        class Hall(Settings):
            left: Lamp = field(default_factory=Lamp)
            kiln: Kiln = field(default_factory=Kiln)


def test_a_type_that_no_setting_can_have_is_named() -> None:
    @dataclass(frozen=True)
    class Odd(Settings):
        amount: complex = setting(1j, "amount")

    with pytest.raises(TypeError, match="^a setting cannot be <class 'complex'>: see the types in "):
        Odd()


def test_a_setting_without_default_must_be_given() -> None:
    @dataclass(frozen=True)
    class Strict(Settings):
        amount: int = setting(REQUIRED, "amount")

    assert Strict(3).amount == 3
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'amount'"):
        Strict()
