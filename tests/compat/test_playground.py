"""The playground in a real browser. What it looked like is in build/compat."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from PIL import Image

from progan_service.serving.config import ServerConfig
from progan_service.store.bundled import BUNDLED_STORE

pytestmark = pytest.mark.compat

ROOT = Path(__file__).parents[2]
TOKEN = "alices-token-0123456789"


def open_page(address: str, name: str, *token: str) -> dict[str, Any]:
    """What the browser saw, on a desk and on a phone."""
    place = ROOT / "build" / "compat" / name
    place.mkdir(parents=True, exist_ok=True)
    command = [ROOT / ".venv-compat/bin/python", Path(__file__).parent / "browser.py"]
    run = subprocess.run(
        [*map(str, command), address, str(place), *token],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    seen: dict[str, Any] = json.loads(run.stdout)
    return seen


@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_images_a_walk_and_its_animation(server: Any, screen: str) -> None:
    seen = open_page(f"http://127.0.0.1:{server.http_port}/", "open")[screen]
    assert (seen["problem"], seen["faults"]) == ("", [])
    assert (seen["images"], seen["progress"]) == (24, "10 of 10 frames")
    assert "8x8, RGB" in seen["facts"]
    assert seen["without a server"] == "the server does not answer"
    assert f'Client("127.0.0.1:{server.port}")' in seen["code"]["python"]
    assert f"127.0.0.1:{server.port} progan.v1.ImageGeneratorService/Interpolate" in seen["code"]["grpcurl"]
    with Image.open(ROOT / "build" / "compat" / "open" / f"{screen}.webp") as saved:
        assert (saved.size, saved.n_frames) == ((8, 8), 10)


def test_sliders_edit_all_images(run_server: Any) -> None:
    with run_server(ServerConfig(BUNDLED_STORE, port=0, http_port=0, lame_duck_s=0)) as server:
        for seen in open_page(f"http://127.0.0.1:{server.http_port}/", "edits").values():
            assert (seen["problem"], seen["faults"]) == ("", [])
            assert 'edits={"size": 3}' in seen["edited"]
            assert 'hold=["brightness"]' in seen["edited"]


def test_over_tls_the_page_asks_for_a_token_and_uses_it(tiny_store: Path, run_server: Any, tmp_path: Path) -> None:
    tokens, certificate, key = tmp_path / "tokens", tmp_path / "tls.crt", tmp_path / "tls.key"
    tokens.write_text(f"alice {TOKEN}\n")
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    secret = {"tokens": tokens, "tls_cert": certificate, "tls_key": key}
    with run_server(ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, **secret)) as server:
        seen = open_page(f"https://localhost:{server.http_port}/", "token", TOKEN)["desk"]
    assert "token" in seen["refusal"]
    assert (seen["images"], seen["problem"]) == (24, "")
    assert TOKEN not in json.dumps(seen["code"])
