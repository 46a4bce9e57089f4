"""Handles of TF Hub modules: which addresses are accepted, and how tensorflow-hub is given them."""

import re
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from progan_service.sources.tfhub.limits import HubModuleError

_KAGGLE_HOSTS = ("kaggle.com", "www.kaggle.com")
_KAGGLE_MODEL = re.compile(
    r"/models/[^/]+/[^/]+/([^/]+/[^/]+/[0-9]+|frameworks/[^/]+/variations/[^/]+/versions/[0-9]+)/?"
)


def parse_handle(source: str, *, pinned: bool) -> str:
    """Return the handle in the form for tensorflow-hub. Raises HubModuleError for an address that is not accepted."""
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise HubModuleError(f"{source}: is no address ({error}); give an https:// handle") from error
    if parts.scheme not in ("https", "http"):
        raise HubModuleError(f"{source}: {parts.scheme}:// is not supported; give an https:// handle")
    if not parts.hostname or "@" in parts.netloc:
        raise HubModuleError(f"{source}: must name a host, and neither user nor password")
    if parts.scheme == "http" and not pinned and not _is_loopback(parts.hostname):
        raise HubModuleError(
            f"{source}: nothing proves what plain http brings; give the https:// handle, or the content's --sha256"
        )
    if parts.hostname in _KAGGLE_HOSTS:
        if not _KAGGLE_MODEL.fullmatch(parts.path):
            raise HubModuleError(
                f"{source}: names no version of a model on Kaggle; its page ends with "
                "/models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION"
            )
        parts = parts._replace(query="")  # the pages add queries of their own
    return parts._replace(fragment="").geturl()


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
