"""The playground: a page that makes images. It is made of files of this package and asks nothing of other servers."""

from collections.abc import Callable
from importlib import resources

from progan_service.serving.http.probes import Pages, Reply, as_json

_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "service.js": "text/javascript; charset=utf-8",
    "snippets.js": "text/javascript; charset=utf-8",
    "webp.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
START = "/playground/index.html"  # what browsers get at /
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}


def playground(grpc_port: int, *, tls: bool, tokens: bool) -> Pages:
    """Return the files of the page, and what it has to know of the server."""
    about = {"grpcPort": grpc_port, "tls": tls, "tokens": tokens}
    pages: Pages = {f"/playground/{name}": _file(name, kind) for name, kind in _FILES.items()}
    return {**pages, "/playground/server.json": lambda _: as_json(200, about, _HEADERS)}


def _file(name: str, kind: str) -> Callable[[str], Reply]:
    content = resources.files(__package__).joinpath("page", name).read_bytes()
    return lambda _: Reply(200, content, kind, _HEADERS)
