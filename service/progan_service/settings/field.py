"""The declaration of a setting: the one place where its name, type, default, rules, choices and help stand.

    @dataclass(frozen=True)
    class ServerConfig(Settings):
        max_images: int = setting(256, "maximum number of images in one call", at_least(1))

Its flag (--max-images), its variable (PROGAN_MAX_IMAGES), its key in a TOML file (max_images), its lines on the help
page and its validation are made from this field. The choices of a setting are those of its type, a Literal.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from progan_service.checks import Rule, finite, is_power_of_two, require
from progan_service.errors import ConfigError
from progan_service.settings.kind import Kind, kind_of, spell

T = TypeVar("T")

REQUIRED: Any = MISSING  # in place of a default
MASK = "***"
_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting. Its name and type are those of its field."""

    default: Any
    help: str
    rules: tuple[Rule, ...]
    group: str
    metavar: str
    default_help: str
    secret: bool
    name: str = ""
    hint: Any = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "PROGAN_" + self.name.upper()

    @property
    def kind(self) -> Kind:
        return kind_of(self.hint)

    def shown(self, value: object) -> str:
        """Return the value as messages show it."""
        return MASK if self.secret else repr(value)

    def check(self, value: Any) -> None:
        """Raise ConfigError if the value breaks a rule."""
        if not isinstance(value, Mapping):
            self._check_one(self.name, value)
            return
        require(4 in value, self.name, value, "must give a value for resolution 4")
        for resolution, one in value.items():
            require(is_power_of_two(resolution), f"{self.name} resolution", resolution, "must be a power of two")
            self._check_one(f"{self.name} at {resolution}", one)

    def _check_one(self, name: str, value: Any) -> None:
        for rule in (*self.rules, *_rules_of_type(self.hint)):
            if not rule.holds(value):
                raise ConfigError(f"{name} is {self.shown(value)}: {rule.text}", self.name, rule.text)


def setting(
    default: T,
    help: str,
    *rules: Rule,
    group: str = "",
    metavar: str = "",
    default_help: str = "",
    secret: bool = False,
) -> T:
    """Declare a setting: a field of a class of Settings.

    help           what it is, in one line
    rules          what a value must keep, beside its type; in a table by resolution each value must
    group          heading on the help page; it holds for the settings after it, too
    metavar        name of a value on the help page; else that of the unit or type
    default_help   description of the default on the help page; else its value
    secret         its value appears in no message
    """
    metadata = {_KEY: Setting(default, help, rules, group, metavar, default_help, secret)}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


class Settings:
    """Base of the configuration classes, which are frozen dataclasses.

    Values are checked when an object is made; ConfigError names the setting, the value and the rule. A field whose type
    is another class of Settings adds the settings of that class. Names that occur twice would share a flag: TypeError
    is raised when the class is declared.
    """

    __dataclass_fields__: ClassVar[dict[str, "Field[Any]"]]  # set by @dataclass

    def __init_subclass__(cls) -> None:
        inherited = getattr(cls, "__dataclass_fields__", {})
        names = Counter(name for name, value in {**inherited, **vars(cls)}.items() if _is_declared(value))
        for kind in nested(cls).values():
            names.update(one.name for one in settings_of(kind))
        if twice := [name for name, count in names.items() if count > 1]:
            raise TypeError(f"{cls.__name__}: more than one setting has the name {' and '.join(twice)}")

    def __post_init__(self) -> None:
        for one in own_settings(type(self)):
            one.check(getattr(self, one.name))


def settings_of(config: type[Settings]) -> list[Setting]:
    """Return the settings of a class and of the classes in it."""
    return own_settings(config) + [one for kind in nested(config).values() for one in settings_of(kind)]


def nested(config: type[Settings]) -> dict[str, type[Settings]]:
    """Return the fields of a class that are classes of Settings, by name."""
    hints = get_type_hints(config)
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Settings)}


def own_settings(config: type[Settings]) -> list[Setting]:
    """Return the settings of a class without those of the classes in it."""
    hints, found, group = get_type_hints(config), [], ""
    for declared in filter(_is_declared, fields(config)):
        found.append(_completed(declared, hints[declared.name], group))
        group = found[-1].group
    return found


def _completed(declared: "Field[Any]", hint: Any, group: str) -> Setting:
    """Return the setting of a field, with what follows from its name, its type and the settings before it."""
    one: Setting = declared.metadata[_KEY]
    return replace(
        one,
        name=declared.name,
        hint=hint,
        group=one.group or group,
        metavar=one.metavar or _unit(declared.name) or kind_of(hint).metavar,
        default_help=one.default_help or ("" if one.default in (MISSING, None, "") else spell(one.default)),
    )


def _rules_of_type(hint: Any) -> tuple[Rule, ...]:
    """Return the rules that a type brings along: no number is infinite, and a Literal has choices."""
    if hint is float or (get_origin(hint) is Mapping and get_args(hint)[1] is float):
        return (finite,)
    if get_origin(hint) is not Literal:
        return ()
    choices = get_args(hint)
    return (Rule(f"must be {', '.join(choices[:-1])} or {choices[-1]}", lambda value: value in choices),)


def _unit(name: str) -> str:
    return "S" if name.endswith("_s") else "KIMG" if name.endswith("_kimg") else ""


def _is_declared(value: object) -> bool:
    return isinstance(value, Field) and _KEY in value.metadata
