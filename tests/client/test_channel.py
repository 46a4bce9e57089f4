"""How a client reaches the service."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progan_client import ArgumentError, AsyncClient, Client, Tls
from progan_client.channel import IMAGE_OPTIONS, STATE_OPTIONS, Settings


def test_messages_may_hold_64_mib_both_ways() -> None:
    for options in (dict(IMAGE_OPTIONS), dict(STATE_OPTIONS)):
        assert options["grpc.max_send_message_length"] == 67_108_864
        assert options["grpc.max_receive_message_length"] == 67_108_864


def test_images_are_asked_of_ready_servers_only_and_state_of_all() -> None:
    images, state = (
        json.loads(str(dict(options)["grpc.service_config"])) for options in (IMAGE_OPTIONS, STATE_OPTIONS)
    )
    assert images["healthCheckConfig"] == {"serviceName": "progan.v1.ImageGeneratorService"}
    assert "healthCheckConfig" not in state
    for config in (images, state):
        assert config["loadBalancingConfig"] == [{"round_robin": {}}]
        assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]


def test_a_token_goes_along_as_a_bearer_token() -> None:
    assert Settings("there:1", 1.0, 1.0, Tls(), "secret").metadata == (("authorization", "Bearer secret"),)
    assert Settings("there:1", 1.0, 1.0, None, "").metadata == ()


@pytest.mark.parametrize("timeout_s", [0, -1, math.inf, math.nan, "5", True, [5], 10**400])
async def test_there_is_always_a_deadline(timeout_s: Any) -> None:
    rule = f"timeout_s: must be a number of seconds above 0; got {re.escape(repr(timeout_s))}$"
    for kind in (Client, AsyncClient):
        for name in ("timeout_s", "stream_timeout_s"):
            with pytest.raises(ArgumentError, match=f"^(stream_)?{rule}"):
                kind(**{name: timeout_s})
    with Client() as client:
        for call in (
            lambda: client.stream(count=1, timeout_s=timeout_s),
            lambda: client.generate(count=1, timeout_s=timeout_s),
            lambda: client.models(timeout_s=timeout_s),
            lambda: client.wait_until_ready(timeout_s),
        ):
            with pytest.raises(ArgumentError, match=f"^{rule}"):
                call()
    async with AsyncClient() as aio:
        with pytest.raises(ArgumentError, match=f"^{rule}"):
            aio.stream(count=1, timeout_s=timeout_s)
        with pytest.raises(ArgumentError, match=f"^{rule}"):
            await aio.generate(count=1, timeout_s=timeout_s)
        with pytest.raises(ArgumentError, match=f"^{rule}"):
            await aio.wait_until_ready(timeout_s)


def test_a_client_without_deadlines_is_refused() -> None:
    with pytest.raises(ArgumentError, match="^timeout_s: must be a number of seconds above 0; got None$"):
        Client(timeout_s=None)  # type: ignore[arg-type]


def test_a_deadline_of_numpy_is_a_number() -> None:
    Client(timeout_s=np.float32(2.5), stream_timeout_s=np.int64(60)).close()  # type: ignore[arg-type]


def test_an_error_does_not_show_the_token() -> None:
    with pytest.raises(ArgumentError) as caught:
        Client(token="sécret\n")
    assert "cret" not in str(caught.value)


def test_settings_do_not_show_the_token() -> None:
    assert "secret" not in repr(Settings("there:1", 1.0, 1.0, Tls(), "secret"))


@pytest.mark.parametrize(
    "target",
    [
        "there:1",
        "10.0.0.1:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "localhost.example:1",
        "dns:///there:1",
        "dns://127.0.0.1/localhost:1",
        "[::2]:1",
    ],
)
def test_a_token_goes_to_another_machine_with_tls_only(target: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Client(target, token="secret")
    assert str(caught.value) == (
        "token: needs TLS to another machine, or others could read it; allow_plain_token=True sends it anyway; "
        f"got '{target}'"
    )
    with Client(target, token="secret", allow_plain_token=True):
        pass
    with Client(target, token="secret", tls=Tls()):
        pass


@pytest.mark.parametrize(
    "target",
    [
        "localhost:1",
        "127.0.0.1:1",
        "[::1]:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "unix:/run/p",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
    ],
)
def test_on_this_machine_a_token_needs_no_tls(target: str) -> None:
    with Client(target, token="secret"):
        pass


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ArgumentError, match="certificate, key: give both or neither"):
        Tls(certificate="client.pem")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.pem"):
        Client(tls=Tls(root=tmp_path / "nothing.pem"))


def test_no_target_is_refused() -> None:
    with pytest.raises(ArgumentError, match="target: must be HOST:PORT; got ''"):
        Client("")
