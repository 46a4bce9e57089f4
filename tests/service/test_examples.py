"""The examples of the service run as they stand."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "service" / "examples"


def test_a_tiny_network_is_trained_and_served(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "train_and_serve.py", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f"{tmp_path / 'face.png'}: the image of seed 1\n")
    with Image.open(tmp_path / "face.png") as face:
        assert (face.mode, face.size) == ("RGB", (8, 8))
