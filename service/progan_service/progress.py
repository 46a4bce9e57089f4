"""How work that takes long reports its progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Takes (stage, done, total): the name of a stage, the items done so far and all items of it, 0 while unknown."""
