"""Warnings at start: a server that is open to strangers, and secrets that are open to other users."""

import ipaddress
import stat

from progan_service.serving.config import ServerConfig


def warnings(config: ServerConfig) -> list[str]:
    """Return what an operator should know at start, one line each."""
    lines = []
    if exposed := _exposure(config):
        lines.append(f"listening on {config.host} {exposed}")
    for path in (config.tls_key, config.tokens):
        if path and path.stat().st_mode & stat.S_IROTH:
            lines.append(f"{path} can be read by every user of this machine; run: chmod o= {path}")
    return lines


def _exposure(config: ServerConfig) -> str:
    known = config.tokens or config.client_ca
    if is_local(config.host) or (config.tls_cert and known):
        return ""
    if config.tls_cert:
        return "without tokens: anyone may call; set --tokens or --client-ca"
    if known:
        return "without TLS: tokens and images can be read on the network; set --tls-cert and --tls-key"
    return "without TLS and tokens: anyone may call and read on the network; set --tls-cert, --tls-key and --tokens"


def is_local(host: str) -> bool:
    """Tell whether a name or an address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
