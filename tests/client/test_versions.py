"""Versions by number and by label: a server that has three, of which the newest is damaged."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from PIL import Image

from progan_client import ArgumentError, AsyncClient, Client, NotFoundError, UnavailableError
from progan_client.command.main import main
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def target(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory, run_server: RunServer) -> Iterator[str]:
    """Version 1 is pinned and stable, 2 is canary, 3 should be beta."""
    store = ModelStore(tmp_path_factory.mktemp("store"))
    for version in (1, 2, 3):
        shutil.copytree(tiny_store / "tiny" / "1", store.path("tiny", version))
    write_provenance(
        store.path("tiny", 2), {"source": "a friend", "origin": "attic.pkl", "license": "CC0", "images_shown": 800}
    )
    (store.path("tiny", 3) / "saved_model.pb").write_bytes(b"damaged")
    store.set_rollout("tiny", Rollout(pinned=1, labels={"stable": 1, "canary": 2, "beta": 3}))
    with run_server(ServerConfig(store.root, port=0, http_port=0, lame_duck_s=0)) as server:
        yield f"127.0.0.1:{server.port}"


def write_provenance(version: Path, provenance: dict[str, object]) -> None:
    document = json.loads((version / "progan.json").read_text())
    (version / "progan.json").write_text(json.dumps(document | {"provenance": provenance}))


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as client:
        yield client


@pytest.mark.parametrize(("version", "answers"), [(None, 1), (1, 1), (2, 2), ("stable", 1), ("canary", 2)])
def test_every_method_requests_a_version_by_number_or_label(
    client: Client, version: int | str | None, answers: int
) -> None:
    assert client.generate(seeds=[1], version=version).model.version == answers
    assert next(client.stream(count=1, seed=1, version=version)).model.version == answers
    assert next(client.interpolate(seeds=[1, 2], version=version)).images.model.version == answers


async def test_the_asynchronous_client_too(target: str) -> None:
    async with AsyncClient(target) as client:
        assert (await client.generate(seeds=[1], version="canary")).model.version == 2
        assert (await anext(client.stream(count=1, seed=1, version="canary"))).model.version == 2
        assert (await anext(client.interpolate(seeds=[1, 2], version=2))).images.model.version == 2


def test_a_version_that_does_not_answer(client: Client) -> None:
    with pytest.raises(NotFoundError, match="no version label 'gamma'; it has: beta, canary, stable"):
        client.generate(seeds=[1], version="gamma")
    with pytest.raises(NotFoundError, match="no version 4; it has: 3, 2, 1"):
        client.generate(seeds=[1], version=4)
    with pytest.raises(UnavailableError, match="version 3 of model 'tiny', labelled 'beta', is not ready"):
        client.generate(seeds=[1], version="beta", timeout_s=5)


def test_a_wrong_version_is_found_before_anything_is_sent() -> None:
    with Client("127.0.0.1:1") as unreachable:  # a call would raise UnavailableError
        with pytest.raises(ArgumentError, match="version: must be a number or a label"):
            unreachable.generate(seeds=[1], version="Canary")
        with pytest.raises(ArgumentError, match="version: must be 1 to 18446744073709551615; got 0"):
            unreachable.stream(count=1, version=0)
        with pytest.raises(ArgumentError, match="version: must be a number or a label"):
            unreachable.interpolate(seeds=[1, 2], version="")


def test_a_model_tells_which_of_its_versions_does_what(client: Client) -> None:
    model = client.model("tiny")
    assert [(version.version, version.state) for version in model.versions] == [
        (3, "failed"),
        (2, "ready"),
        (1, "ready"),
    ]
    assert "saved_model.pb: differs from what was published" in model.versions[0].error
    assert (model.serving_version, model.pinned_version, model.error) == (1, 1, "")
    assert model.version_labels == {"stable": 1, "canary": 2}
    assert client.models() == [model]


def test_a_model_has_its_versions_by_number_and_label(client: Client) -> None:
    model = client.model()
    assert [model.version(name).version for name in (None, 1, 3, "stable", "canary")] == [1, 1, 3, 1, 2]
    for wrong in (0, 4, "beta", "2"):
        with pytest.raises(ArgumentError, match="version: must be one of 3, 2, 1, canary, stable; got"):
            model.version(wrong)


def test_a_version_tells_where_it_came_from(client: Client) -> None:
    friendly, stable = client.model().version("canary"), client.model().version("stable")
    assert (friendly.source, friendly.origin, friendly.license) == ("a friend", "attic.pkl", "CC0")
    assert repr(friendly.provenance["images_shown"]) == "800"
    assert (stable.source, stable.origin, stable.license) == ("tests", "", "")


def test_the_command_takes_a_number_or_a_label(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", target)
    assert main(["generate", "--seed", "1", "--version", "canary", "-o", "image.png"]) == 0
    assert main(["walk", "--seeds", "1,2", "--frames", "1", "--version", "2", "-o", "walk/"]) == 0
    assert capsys.readouterr().out == (
        "image.png: 1 image of seed 1, 8x8 pixels, tiny version 2\n"
        "walk/frame-0000.png to frame-0002.png: 3 images, 8x8 pixels, tiny version 2\n"
    )


def test_what_the_service_wrote_into_a_picture_stays_there(
    target: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", target)
    images = client.generate(seeds=[7], version="canary", encoding="png")
    images.save("saved.png")
    main(["generate", "--seed", "7", "--version", "canary", "-o", "one.png"])
    main(["generate", "--seeds", "7", "--version", "canary", "-o", "several/"])
    main(["walk", "--seeds", "7,8", "--version", "canary", "-o", "walk/"])
    for path in ("saved.png", "one.png", "several/image-0000.png"):
        assert Path(path).read_bytes() == images.files[0]
    common = {
        "Software": "progan",
        "Model": "tiny version 2",
        "Digest": images.model.digest,
        "Source": "a friend attic.pkl, 0.8 kimg",
        "License": "CC0",
    }
    with Image.open("one.png") as image, Image.open("walk/frame-0000.png") as frame:
        assert image.text == common | {"Seed": "7"}
        assert frame.text == common


def test_models_are_listed_with_what_each_version_is_for(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--target", target]) == 0
    name, heading, *lines = capsys.readouterr().out.splitlines()
    third, second, first = (line for line in lines if line.split()[0] in ("3", "2", "1"))
    assert name == "tiny (default)"
    assert heading.split() == ["VERSION", "STATE", "IMAGES", "LATENT", "DIGEST", "USE"]
    assert third.split()[:5] == ["3", "failed", "8x8", "RGB", "16"]
    assert second.split()[:2] == ["2", "ready"]
    assert second.endswith("  canary")
    assert first.endswith("  serving, pinned, stable")
