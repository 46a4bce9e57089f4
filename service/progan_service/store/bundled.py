"""The model that comes with the package."""

from pathlib import Path

BUNDLED_STORE = Path(__file__).parents[1] / "bundled"
