"""The whole way, with the real commands: dataset -> train -> killed -> resumed -> export -> serve -> pictures."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import served

from progan_client import Client
from progan_service.commands import parser as cli

BIN = Path(sys.executable).parent
SCHEDULE = [
    *("--stable-kimg", "0.3", "--fade-kimg", "0.3", "--tick-kimg", "0.1", "--total-kimg", "1.2"),
    *("--fmap-base", "64", "--fmap-max", "16"),
]


def progan(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "progan"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


def in_this_process(*arguments: object) -> int:
    """Its exit code; saves an import of TensorFlow."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    parsed = cli.parser().parse_args(list(map(str, arguments)))
    try:
        code: int = parsed.run(parsed)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def wait_for_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 240
    while not any((run / "checkpoints").glob("images-*.npz")):
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < give_up, "no checkpoint within four minutes"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With models of faces: `faces`, `glasses` with two classes, `smiles` with two attributes; and grey `digits`."""
    root = tmp_path_factory.mktemp("way")
    assert in_this_process("dataset", "demo", root / "faces", "--resolution", 8, "--count", 100) == 0
    train = ["train", "--data", root / "faces", "--run", root / "run", *SCHEDULE]

    killed = subprocess.Popen(list(map(str, [BIN / "progan", *train])), stdout=subprocess.DEVNULL)
    try:
        wait_for_checkpoint(root / "run", killed)
    finally:
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL

    resumed = progan(*train)
    assert "going on from" in resumed.stdout
    assert "kimg 1.2/1.2  8x8  alpha 1.00" in resumed.stdout
    exported = progan("export", root / "run", "--store", root / "store", "--name", "faces")
    assert exported.stdout == f"{root / 'store' / 'faces' / '1'}: faces version 1, 8x8, from progan train, 1.2 kimg\n"

    labelled = ["--data", root / "faces", "--run", root / "labelled", "--labels", *SCHEDULE]
    assert in_this_process("train", *labelled, "--resolution", 4, "--total-kimg", 0.2) == 0
    assert in_this_process("export", root / "labelled", "--store", root / "store", "--name", "glasses") == 0

    faces = [root / "smiles", "--resolution", 8, "--count", 100, "--label", "glasses,smile"]
    assert in_this_process("dataset", "demo", *faces) == 0
    labelled = ["--data", root / "smiles", "--run", root / "labelled_2", "--labels", *SCHEDULE]
    assert in_this_process("train", *labelled, "--resolution", 4, "--total-kimg", 0.2) == 0
    assert in_this_process("export", root / "labelled_2", "--store", root / "store", "--name", "smiles") == 0

    np.save(root / "digits.npy", np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8))
    assert (
        in_this_process("dataset", "build", root / "digits.npy", root / "digits", "--resolution", 8, "--channels", 1)
        == 0
    )
    grey = ["--data", root / "digits", "--run", root / "grey", *SCHEDULE, "--resolution", 4, "--total-kimg", 0.2]
    assert in_this_process("train", *grey) == 0
    assert in_this_process("export", root / "grey", "--store", root / "store", "--name", "digits") == 0
    return root / "store"


@pytest.fixture(scope="module")
def target(store: Path) -> Iterator[str]:
    with served("--store", store, "--model", "faces") as server, Client(server.target) as client:
        client.wait_until_ready(timeout_s=120)
        yield server.target
        assert server.stop() == 0


def test_a_trained_model_answers_with_pictures(target: str, tmp_path: Path) -> None:
    with Client(target) as client:
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
    subprocess.run(list(map(str, command)), check=True, timeout=300, env={**os.environ, "PROGAN_TARGET": ""})
    with Image.open(picture) as grid:
        assert grid.size == (16, 16)


def test_a_model_trained_with_labels_draws_what_is_asked_for(target: str) -> None:
    with Client(target) as client:
        (version,) = client.model("glasses").versions
        assert version.label_names == ("no glasses", "glasses")
        bare, glasses, again = (
            client.generate(seeds=[1, 2, 3], label=label, model="glasses").pixels
            for label in ("no glasses", "glasses", "no glasses")
        )
    assert not any(np.array_equal(one, other) for one, other in zip(bare, glasses, strict=True))
    np.testing.assert_array_equal(bare, again)


def test_a_model_trained_with_attributes_draws_any_of_them_together(target: str) -> None:
    with Client(target) as client:
        (version,) = client.model("smiles").versions
        assert (version.label_names, version.label_kind) == (("glasses", "smile"), "attributes")
        none, glasses, both = (
            client.generate(seeds=[1, 2, 3], labels=labels, model="smiles").pixels
            for labels in (None, ["glasses"], ["smile", "glasses"])
        )
        vector = client.generate(seeds=[1, 2, 3], labels=version.label_vector("glasses", "smile"), model="smiles")
    for one, other in ((none, glasses), (glasses, both), (none, both)):
        assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    np.testing.assert_array_equal(both, vector.pixels)


def test_a_model_trained_on_grey_images_draws_grey_ones(target: str, tmp_path: Path) -> None:
    picture = tmp_path / "digit.png"
    command = [BIN / "progan-client", "generate", "--model", "digits", "--seed", "1", "-o", picture, "--target", target]
    subprocess.run(list(map(str, command)), check=True, timeout=300)
    with Client(target) as client, Image.open(picture) as found:
        images = client.generate(seeds=[1], model="digits")
        assert images.pixels.shape == (1, 4, 4, 1)
        assert (found.mode, found.size) == ("L", (4, 4))
        np.testing.assert_array_equal(np.asarray(found), images.pixels[0, :, :, 0])


def test_the_run_at_an_earlier_tick_becomes_a_version_while_the_server_runs(target: str, store: Path) -> None:
    snapshot = store.parent / "run" / "snapshots" / "images-000000512.safetensors"
    with Client(target) as client:
        assert client.generate(seeds=[1], model="faces").model.version == 1
        assert in_this_process("export", snapshot, "--store", store, "--name", "faces") == 0
        wait_for_version(client, 2)
        assert client.generate(seeds=[1], model="faces").pixels.shape == (1, 8, 8, 3)
        assert in_this_process("models", "pin", "faces", "1", "--store", store) == 0
        wait_for_version(client, 1)


def wait_for_version(client: Client, version: int) -> None:
    give_up = time.monotonic() + 60
    while client.generate(seeds=[1], model="faces").model.version != version:
        assert time.monotonic() < give_up, f"version {version} does not serve within a minute"
        time.sleep(0.1)


def test_their_provenance_tells_how_they_were_trained(store: Path) -> None:
    _, *rows, default = progan("models", "--store", store).stdout.splitlines()
    assert default.startswith("there are several models and none is the default: digits, faces, glasses, smiles; ")
    found = [(row.split()[0], row.split()[1], row.partition("  progan train, ")[2]) for row in rows]
    assert found == [
        ("digits", "1", "0.2 kimg"),
        ("faces", "2", "0.5 kimg"),
        ("faces", "1", "1.2 kimg"),
        ("glasses", "1", "0.2 kimg"),
        ("smiles", "1", "0.2 kimg"),
    ]
