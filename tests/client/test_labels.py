"""A model with labels, asked for by name: a real one, untrained, of faces bare and with glasses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from progan_client import ArgumentError, Client
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
    with run_server(ServerConfig(store.root, port=0, http_port=0, lame_duck_s=0)) as server:
        yield f"127.0.0.1:{server.port}"


def test_a_label_is_found_by_its_name(target: str) -> None:
    with Client(target) as client:
        version = client.model("faces").versions[0]
    assert version.label_names == ("bare", "glasses")
    assert version.one_hot("glasses").tolist() == [0, 1]
    with pytest.raises(ArgumentError, match="label: must be one of bare, glasses; got 'hat'"):
        version.one_hot("hat")


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
    assert "label: must be one of bare, glasses; got 'hat'" in capsys.readouterr().err
