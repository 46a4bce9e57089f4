"""Each program of client/examples against a real server with the tiny model."""

import ast
import asyncio
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image, ImageSequence

from progan_client import Client
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server
from progan_service.store.bundled import BUNDLED_STORE

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]
EXAMPLES = Path(__file__).parents[2] / "client" / "examples"


@pytest.fixture(autouse=True)
def directory(server_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, and the address of the server for the programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROGAN_TARGET", server_target)


def output_of(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True).stdout


def test_every_example_has_a_test() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file())
    assert names == [
        "asyncio_service.py",
        "fastapi_endpoint.py",
        "grid.py",
        "latent_space.ipynb",
        "photo.py",
        "stream_many.py",
        "walk.py",
    ]


def test_grid() -> None:
    assert output_of("grid.py") == "grid.png: <GeneratedImages: 16 of 8x8x3, tiny version 1>\n"
    with Image.open("grid.png") as grid:
        assert grid.size == (64, 64)


def test_walk() -> None:
    assert output_of("walk.py") == "walk.webp: 93 frames\n"
    with Image.open("walk.webp") as walk:
        assert (walk.size, len(list(ImageSequence.Iterator(walk)))) == ((16, 16), 93)


def test_photo(server_target: str) -> None:
    with Client(server_target) as client:
        client.generate(seed=5).save("me.png")
    assert output_of("photo.py", "me.png").startswith("photo.webp: from <Inversion: ")
    with Image.open("photo.webp") as walk:
        assert (walk.size, len(list(ImageSequence.Iterator(walk)))) == ((16, 16), 62)


def test_stream_many(server_target: str) -> None:
    assert output_of("stream_many.py", "40") == "images: 40 files\n"
    assert len(list(Path("images").iterdir())) == 40
    with Client(server_target) as client:
        assert Path("images/000039.png").read_bytes() == client.generate(seed=39, encoding="png").files[0]


@pytest.fixture
def avatar_port() -> Iterator[int]:
    command = [sys.executable, str(EXAMPLES / "asyncio_service.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().removeprefix("listening on port "))
        process.terminate()


async def avatar(port: int, name: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{name}\n".encode())
    file = await reader.read()
    writer.close()
    await writer.wait_closed()
    return file


async def test_asyncio_service(avatar_port: int) -> None:
    alice, bob, again = await asyncio.gather(*(avatar(avatar_port, name) for name in ("alice", "bob", "alice")))
    assert alice == again != bob
    assert alice.startswith(b"\x89PNG")


@pytest.fixture
def app() -> FastAPI:
    spec = importlib.util.spec_from_file_location("fastapi_endpoint", EXAMPLES / "fastapi_endpoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: FastAPI = module.app
    return found


def test_fastapi_endpoint(app: FastAPI, server_target: str) -> None:
    with TestClient(app) as http, Client(server_target) as client:
        reply = http.get("/images/1337.png")
        assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png")
        assert reply.content == client.generate(seed=1337, encoding="png").files[0]
        refused = http.get("/images/-1.png")
    assert (refused.status_code, refused.json()) == (
        422,
        {"detail": "seed: must be 0 to 18446744073709551615; got -1"},
    )


def test_fastapi_endpoint_without_a_service(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGAN_TARGET", "127.0.0.1:1")
    with TestClient(app) as http:
        reply = http.get("/images/1337.png")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")


def test_the_notebook_shows_what_it_says(run_server: RunServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after the other, as in Jupyter: the value of the last line is what a cell shows."""
    notebook = json.loads((EXAMPLES / "latent_space.ipynb").read_text())
    namespace: dict[str, Any] = {}
    shown = []
    with run_server(ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)) as server:
        monkeypatch.setenv("PROGAN_TARGET", f"127.0.0.1:{server.port}")
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                *before, last = ast.parse("".join(cell["source"])).body
                exec(compile(ast.Module(before, []), "cell", "exec"), namespace)
                assert isinstance(last, ast.Expr)
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), namespace))
    pictures = [value for value in shown if hasattr(value, "_repr_png_")]
    assert [Image.open(io.BytesIO(picture._repr_png_())).mode for picture in pictures] == ["RGB"] * 7
    assert "glasses" in shown[2]
    assert namespace["found"].psnr_db[0] > 30
    assert (len(namespace["frames"]), all(not cell.get("outputs") for cell in notebook["cells"])) == (41, True)
