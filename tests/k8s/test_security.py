"""What keeps strangers out: TLS, tokens and clients' certificates, as the README adds them."""

import re
from pathlib import Path

import pytest
from manifests import K8S, Resource, containers, mount_of, of_kind, render, shown_overlays, validate, written

from progan_service.commands.parser import parser


@pytest.fixture
def guarded(tmp_path: Path) -> list[Resource]:
    """The overlay of the README with what it says of TLS and tokens."""
    components, overlay = shown_overlays()
    return render(written(tmp_path, overlay + components))


@pytest.mark.check
def test_servers_with_tls_and_tokens_fit_the_schema_and_read_what_is_mounted(guarded: list[Resource]) -> None:
    [deployment] = of_kind(guarded, "Deployment")
    validate(deployment)
    [container] = containers([deployment])
    args = parser().parse_args(container["args"])
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    for paths, secret in (((args.tls_cert, args.tls_key), "progan-tls"), ((args.tokens,), "progan-tokens")):
        for path in paths:
            mount = mount_of(container, str(path))
            assert mount["readOnly"] is True
            assert "subPath" not in mount  # such a file would never be renewed
            assert volumes[mount["name"]]["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert [path.name for path in (args.tls_cert, args.tls_key, args.tokens)] == ["tls.crt", "tls.key", "tokens"]
    assert args.host == "0.0.0.0"


@pytest.mark.check
def test_clients_certificates_are_asked_for_as_the_readme_says(tmp_path: Path) -> None:
    components, overlay = shown_overlays()
    [patch] = re.findall(r"`({op: add, .*?--client-ca=.*?})`", (K8S / "README.md").read_text())
    resources = render(written(tmp_path, overlay.rstrip() + f"\n      - {patch}\n" + components))
    [container] = containers(of_kind(resources, "Deployment"))
    client_ca = parser().parse_args(container["args"]).client_ca
    assert mount_of(container, str(client_ca))["name"] == "tls"
