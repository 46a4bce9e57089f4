"""The whole way, with the real commands: dataset -> train -> killed -> resumed -> export -> serve -> pictures."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from progan_client import Client

BIN = Path(sys.executable).parent
SCHEDULE = [
    *("--stable-kimg", "0.3", "--fade-kimg", "0.3", "--tick-kimg", "0.1", "--total-kimg", "1.2"),
    *("--fmap-base", "64", "--fmap-max", "16"),
]


def progan(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "progan"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@contextmanager
def served(store: Path) -> Iterator[str]:
    command = [BIN / "progan", "serve", "--store", store, "--port", "0", "--http-port", "0", "--lame-duck-s", "0"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        listening = process.stdout.readline()
        yield listening.split("gRPC ")[1].split(",")[0]
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def wait_for_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 240
    while not any((run / "checkpoints").glob("images-*.npz")):
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < give_up, "no checkpoint within four minutes"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("way")
    progan("dataset", "demo", root / "faces", "--resolution", 8, "--count", 100)
    train = ["train", "--data", root / "faces", "--run", root / "run", *SCHEDULE]

    killed = subprocess.Popen(list(map(str, [BIN / "progan", *train])), stdout=subprocess.DEVNULL)
    wait_for_checkpoint(root / "run", killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    resumed = progan(*train)
    assert "going on from" in resumed.stdout
    assert "kimg 1.2/1.2  8x8  alpha 1.00" in resumed.stdout
    exported = progan("export", root / "run", "--store", root / "store", "--name", "faces")
    assert exported.stdout == f"{root / 'store' / 'faces' / '1'}: faces version 1, 8x8\n"
    return root / "store"


def test_a_trained_model_answers_with_pictures(store: Path, tmp_path: Path) -> None:
    with served(store) as target, Client(target) as client:
        client.wait_until_ready(timeout_s=120)

        images = client.generate(seeds=[1, 2, 3])
        assert images.pixels.shape == (3, 8, 8, 3)
        assert images.model.name == "faces"
        assert images.model.version == 1
        np.testing.assert_array_equal(client.generate(latents=images.latents).pixels, images.pixels)

        frames = list(client.interpolate(seeds=[1, 2], frames_between=3))
        assert len(frames) == 5
        np.testing.assert_array_equal(frames[0].pixels, images.pixels[0])
        np.testing.assert_array_equal(frames[4].pixels, images.pixels[1])

        picture = tmp_path / "grid.png"
        command = [BIN / "progan-client", "generate", "--seed", "1", "--count", "4", "-o", picture, "--target", target]
        subprocess.run(list(map(str, command)), check=True, timeout=60, env={**os.environ, "PROGAN_TARGET": ""})
        with Image.open(picture) as grid:
            assert grid.size == (16, 16)


def test_its_provenance_tells_how_it_was_trained(store: Path) -> None:
    listed = progan("models", "--store", store).stdout.splitlines()
    assert listed[0].split() == ["MODEL", "VERSION", "SIZE", "LATENT", "KIMG", "EXPORTED", "DIGEST"]
    assert listed[1].split()[:5] == ["faces", "1", "8x8x3", "16", "1.2"]
