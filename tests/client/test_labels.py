"""Models with labels, asked for by name: real ones, untrained, with two classes or two attributes."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from progan_client import ArgumentError, Client, InvalidArgumentError
from progan_client.command.main import main
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server
from progan_service.store.store import ModelStore

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, run_server: RunServer) -> Iterator[str]:
    store = ModelStore(tmp_path_factory.mktemp("store"))
    keras.utils.set_random_seed(0)
    generator = Generator(NetworkConfig(resolution=8, fmap_base=64, fmap_max=16, label_size=2))
    export_version(Exportable.of(TrainedGenerator(generator, 8, 1.0, ("bare", "glasses"), {})), store, "faces")
    attributes = TrainedGenerator(generator, 8, 1.0, ("glasses", "smile"), {}, label_kind="attributes")
    export_version(Exportable.of(attributes), store, "attributes")
    with run_server(ServerConfig(store.root, model="faces", port=0, http_port=0, lame_duck_s=0)) as server:
        yield f"127.0.0.1:{server.port}"


def test_a_name_is_a_vector(target: str) -> None:
    with Client(target) as client:
        faces, attributes = (client.model(name).versions[0] for name in ("faces", "attributes"))
    assert (faces.label_names, faces.label_kind) == (("bare", "glasses"), "classes")
    assert faces.label_vector("glasses").tolist() == [0, 1]
    assert (attributes.label_names, attributes.label_kind) == (("glasses", "smile"), "attributes")
    assert attributes.label_vector("smile", "glasses").tolist() == [1, 1]
    assert attributes.label_vector().tolist() == [0, 0]
    with pytest.raises(ArgumentError, match="label: must be one of bare, glasses; got 'hat'"):
        faces.label_vector("hat")
    with pytest.raises(ArgumentError, match="labels: must be one name: an image of this model has one class; got"):
        faces.label_vector("bare", "glasses")


def test_a_class_is_asked_for_by_its_name(target: str) -> None:
    with Client(target) as client:
        vector = client.generate(seed=1, labels=[0, 1]).pixels
        np.testing.assert_array_equal(client.generate(seed=1, label="glasses").pixels, vector)
        np.testing.assert_array_equal(next(client.stream(seed=1, label="glasses")).pixels, vector)
        np.testing.assert_array_equal(next(client.interpolate(seeds=[1, 2], label="glasses")).pixels, vector[0])


def test_several_attributes_hold_at_once(target: str) -> None:
    with Client(target) as client:
        for names, vector in ((["glasses", "smile"], [1, 1]), (["smile"], [0, 1]), (None, [0, 0])):
            named, given = (client.generate(seed=1, labels=each, model="attributes") for each in (names, vector))
            np.testing.assert_array_equal(named.pixels, given.pixels)


def test_a_png_of_a_seed_names_its_labels(target: str) -> None:
    with Client(target) as client:
        made = {"seed": 1, "encoding": "png"}
        files = client.generate(**made, label="glasses").files + client.generate(**made, model="attributes").files  # type: ignore[arg-type]
    texts = [Image.open(io.BytesIO(file)).text for file in files]  # type: ignore[attr-defined]
    assert [text["Labels"] for text in texts] == ["glasses", "none"]


def test_names_that_make_no_sense_are_refused_by_the_service(target: str) -> None:
    with Client(target) as client:
        with pytest.raises(InvalidArgumentError, match=r"^label: 'hat' must be one of bare, glasses$"):
            client.generate(seed=1, label="hat")
        with pytest.raises(InvalidArgumentError, match=r"^label: has 2 names; an image of this model has one class$"):
            client.generate(seed=1, labels=["bare", "glasses"])
        with pytest.raises(InvalidArgumentError, match=r"^label: 'smile' is given twice$"):
            client.generate(seed=1, labels=["smile", "smile"], model="attributes")
        with pytest.raises(InvalidArgumentError, match=r"column 1 is -1; must lie between 0 \(not\) and 1 \(holds\)$"):
            client.generate(seed=1, labels=[1, -1], model="attributes")


def test_another_label_is_another_image(target: str) -> None:
    with Client(target) as client:
        bare, glasses = (client.generate(seed=1, labels=labels).pixels for labels in ([1, 0], [0, 1]))
    assert not np.array_equal(bare, glasses)


def test_labels_walk_from_one_to_the_other(target: str) -> None:
    with Client(target) as client:
        frames = list(client.interpolate(seeds=[1, 1], frames_between=1, path="linear", labels=[[1, 0], [0, 1]]))
        middle = client.generate(seed=1, labels=[0.5, 0.5]).pixels[0]
    np.testing.assert_array_equal(frames[1].pixels, middle)


def test_the_command_takes_the_name_or_the_vector(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", target)
    assert main(["generate", "--seed", "1", "--label", "glasses", "-o", "name.png"]) == 0
    assert main(["generate", "--seed", "1", "--labels", "0,1", "-o", "vector.png"]) == 0
    np.testing.assert_array_equal(*(np.asarray(Image.open(name)) for name in ("name.png", "vector.png")))
    assert main(["generate", "--seed", "1", "--label", "hat", "-o", "none.png"]) != 0
    assert "--label: 'hat' must be one of bare, glasses" in capsys.readouterr().err
    attributes = ["generate", "--seed", "1", "--model", "attributes"]
    assert main([*attributes, "--label", "smile", "--label", "glasses", "-o", "names.png"]) == 0
    assert main([*attributes, "--labels", "1,1", "-o", "both.png"]) == 0
    np.testing.assert_array_equal(*(np.asarray(Image.open(name)) for name in ("names.png", "both.png")))


def test_labels_that_are_found_are_printed_as_they_are_given(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Latents make the image that was found only with its labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", target)
    assert main(["generate", "--seed", "1", "--label", "glasses", "-o", "photo.png"]) == 0
    invert = ["invert", "photo.png", "--max-evaluations", "40", "-o", "found.png", "--latents", "z.npy"]
    assert main([*invert, "--label", "glasses"]) == 0
    assert "--labels" not in capsys.readouterr().out
    assert main(invert) == 0
    labels = capsys.readouterr().out.splitlines()[0].partition(", --labels ")[2]
    assert main(["generate", "--latents", "z.npy", "--labels", labels, "-o", "again.png"]) == 0
    np.testing.assert_array_equal(*(np.asarray(Image.open(name)) for name in ("found.png", "again.png")))
