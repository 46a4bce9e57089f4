"""Which requests are those of a web page that belongs to somebody else. Pure.

Browsers let every page send requests to every address, this machine's own included. Without these rules any page that a
user of this machine visits could use a server that is meant for the user alone.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from progan_service.serving.access.exposure import is_local


class Guard:
    """The rules for the headers of a request.

    only_local   whether the server is for this machine alone and open to everybody on it. Then it must not be called by
                 another name: a foreign page can give its own name the address 127.0.0.1
    """

    def __init__(self, *, only_local: bool) -> None:
        self._only_local = only_local

    def problem(self, headers: Mapping[str, str]) -> str:
        """Return why a request is refused, or ''."""
        host = headers.get("Host", "")
        if host and self._only_local and not is_local(_hostname(host)):
            return (
                f"Host is {host[:100]!r}; without TLS and tokens this server answers on its own machine only, "
                "as localhost or 127.0.0.1"
            )
        if _is_foreign(headers, host):
            origin = headers.get("Origin", "elsewhere")[:100]
            return f"a page of {origin} may not use this server, which is {host[:100]!r}; a proxy must keep the Host"
        return ""


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Tell whether a browser sends this for a page of another origin. A link that a user follows is none."""
    site = headers.get("Sec-Fetch-Site", "")
    if site in ("same-origin", "none"):
        return False
    if site:
        return (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) != ("navigate", "document")
    origin = headers.get("Origin", "")
    return bool(origin) and _host_of(origin) != host.lower()


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
