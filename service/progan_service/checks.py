"""The rules that values keep, each stated once."""

from progan_service.errors import ConfigError


def require(holds: bool, field_name: str, value: object, rule: str) -> None:
    """Raise ConfigError, naming the field, its value and the rule, unless the rule holds."""
    if not holds:
        raise ConfigError(f"{field_name} is {value!r}: {rule}", field_name, rule)


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def resolutions_up_to(resolution: int) -> list[int]:
    """4, 8, ... up to `resolution`."""
    return [2**r for r in range(2, resolution.bit_length())]
