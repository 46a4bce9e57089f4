"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) after each image of a stage; done counts from 1 to total."""
