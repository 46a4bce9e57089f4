"""The page at / of the HTTP port: what it is made of, and what it may do. `make compat` opens it in a browser."""

import re
from pathlib import Path
from typing import Any

import pytest
from web import Web

from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"  # what browsers accept
FILES = ("page.css", "page.js", "service.js", "snippets.js", "webp.js", "icon.svg")


def test_a_browser_gets_the_page_and_everybody_else_what_they_know(tiny: Web) -> None:
    page = tiny.get("/", Accept=HTML)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<title>ProGAN playground</title>" in page.body
    for other in (tiny.get("/"), tiny.get("/", Accept="*/*"), tiny.get("/", Accept="application/json")):
        assert (other.json, other.headers["vary"]) == ({"status": "alive"}, "Accept")
    assert page.headers["vary"] == "Accept"


def test_all_that_the_page_asks_for_is_there_and_nothing_is_from_elsewhere(tiny: Web) -> None:
    texts = {"index.html": tiny.get("/", Accept=HTML).body.decode()}
    texts |= {name: tiny.get(f"/playground/{name}").body.decode() for name in FILES}
    asked = set(re.findall(r'(?:src|href)="(/playground/[^"]+)"', texts["index.html"]))
    for text in texts.values():
        asked |= {f"/playground/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
    assert asked == {f"/playground/{name}" for name in FILES}
    outside = {address for text in texts.values() for address in re.findall(r"https?://[\w.]+", text)}
    assert outside == {"http://www.w3.org", "https://developers.google.com"}  # a namespace, and a comment


@pytest.mark.parametrize("path", ["/", "/playground/page.js", "/playground/server.json"])
def test_the_page_may_ask_this_server_alone(tiny: Web, path: str) -> None:
    headers = tiny.get(path, Accept=HTML).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_the_page_knows_where_grpc_listens(server: Server, tiny: Web) -> None:
    assert tiny.get("/playground/server.json").json == {"grpcPort": server.port, "tls": False, "tokens": False}


def test_the_page_needs_no_token_to_ask_for_one(guarded: Server) -> None:
    stranger = Web(guarded.http_port)
    assert stranger.get("/", Accept=HTML).status == 200
    assert stranger.get("/playground/page.js").status == 200
    assert stranger.get("/playground/server.json").json["tokens"] is True


def test_without_the_playground_there_is_none(tiny_store: Path, run_server: Any) -> None:
    config = ServerConfig(tiny_store, port=0, http_port=0, lame_duck_s=0, playground=False)
    with run_server(config) as server:
        web = Web(server.http_port)
        assert web.get("/", Accept=HTML).body == b'{"status": "alive"}'
        assert web.get("/playground/page.js").status == 404
