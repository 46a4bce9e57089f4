"""Takes out of an environment what the image leaves out: `python left_out.py ENVIRONMENT`. The Dockerfile says what."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = "/app/.venv/"  # in the image


def left_out() -> list[str]:
    """Return the patterns of paths that the Dockerfile removes, below the environment."""
    [removal] = re.findall(r"&& rm -r ((?:\S+ (?:\\\n)? *)+\S+)\n", (ROOT / "Dockerfile").read_text())
    return [path.removeprefix(INSTALLED) for path in removal.split() if path != "\\"]


def main(environment: str) -> None:
    for pattern in left_out():
        [found] = Path(environment).glob(pattern)
        size = sum(file.stat().st_size for file in found.rglob("*") if file.is_file())
        print(f"left out: {found.name}, {size / 1e6:.0f} MB")
        shutil.rmtree(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
