"""No connection, for whatever reason: one sentence that says what to change, for programs and for the command."""

import asyncio
import datetime
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import pytest
import trustme

from progan_client import (
    ArgumentError,
    AsyncClient,
    Client,
    DeadlineExceededError,
    MessageTooLargeError,
    Tls,
    UnauthenticatedError,
    UnavailableError,
)
from progan_client.command import main
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server

RunServer = Callable[[ServerConfig], AbstractContextManager[Server]]

COMMAND = Path(sys.executable).with_name("progan-client")
TOKEN = "alices-token-0123456789"


class Places(NamedTuple):
    """Targets on `localhost`, which is two addresses: nobody listens on [::1]."""

    plain: str
    http: str
    tls: str
    mutual: str
    other_name: str
    expired: str
    closed: str
    files: Path


@pytest.fixture(scope="module")
def places(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory, run_server: RunServer) -> Iterator[Places]:
    """Servers of all kinds. `plain` and `tls` want a token."""
    files = tmp_path_factory.mktemp("secret")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(files / "ca.crt")
    stranger.cert_pem.write_to_path(files / "other-ca.crt")
    hour = datetime.timedelta(hours=1)
    now = datetime.datetime.now(datetime.UTC)
    for name, certificate in {
        "server": authority.issue_cert("localhost"),
        "other-name": authority.issue_cert("images.example"),
        "expired": authority.issue_cert("localhost", not_before=now - 2 * hour, not_after=now - hour),
        "client": authority.issue_cert("client.example"),
        "stranger": stranger.issue_cert("client.example"),
    }.items():
        certificate.private_key_pem.write_to_path(files / f"{name}.key")
        (files / f"{name}.crt").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    (files / "tokens").write_text(f"# who may call\nalice {TOKEN}\n")
    (files / "tokens").chmod(0o600)
    common = {"port": 0, "http_port": 0, "lame_duck_s": 0.0}
    tls = {"tls_cert": files / "server.crt", "tls_key": files / "server.key"}
    with ExitStack() as stack, socket.socket() as closed:
        plain, secured, mutual = (
            stack.enter_context(run_server(ServerConfig(tiny_store, **common, **options)))  # type: ignore[arg-type]
            for options in (
                {"tokens": files / "tokens"},
                tls | {"tokens": files / "tokens"},
                tls | {"client_ca": files / "ca.crt"},
            )
        )
        closed.bind(("127.0.0.1", 0))  # and does not listen
        yield Places(
            f"localhost:{plain.port}",
            f"localhost:{plain.http_port}",
            f"localhost:{secured.port}",
            f"localhost:{mutual.port}",
            f"localhost:{stack.enter_context(tls_only(files, 'other-name'))}",
            f"localhost:{stack.enter_context(tls_only(files, 'expired'))}",
            f"localhost:{closed.getsockname()[1]}",
            files,
        )


class tls_only(AbstractContextManager[int]):  # noqa: N801
    """A gRPC server with a certificate that `progan serve` would refuse."""

    def __init__(self, files: Path, name: str) -> None:
        pair = ((files / f"{name}.key").read_bytes(), (files / f"{name}.crt").read_bytes())
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        self._port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))

    def __enter__(self) -> int:
        self._server.start()
        return self._port

    def __exit__(self, *error: object) -> None:
        self._server.stop(grace=0).wait()


# The place, the options of the command, and what is wrong, for programs and for the command.
CASES = {
    "nobody": ("closed", [], "connection refused; is the service running, and is the port right?", ""),
    "plain": (
        "tls",
        [],
        "it expects TLS; give tls=Tls(root=...)",
        "it expects TLS; give --tls-root FILE",
    ),
    "tls": (
        "plain",
        ["--tls-root", "ca.crt"],
        "it does not speak TLS; leave out tls=",
        "it does not speak TLS; leave out --tls and --tls-root",
    ),
    "authority": (
        "tls",
        ["--tls-root", "other-ca.crt"],
        "its certificate is of an authority that is not trusted here; give that authority by tls=Tls(root=...)",
        "its certificate is of an authority that is not trusted here; give that authority by --tls-root FILE",
    ),
    "name": (
        "other_name",
        ["--tls-root", "ca.crt"],
        "its certificate is not for localhost; use the name that is in the certificate",
        "",
    ),
    "expired": ("expired", ["--tls-root", "ca.crt"], "its certificate has expired", ""),
    "no certificate": (
        "mutual",
        ["--tls-root", "ca.crt"],
        "it wants a certificate of the client; give tls=Tls(certificate=..., key=...)",
        "it wants a certificate of the client; give --tls-cert FILE and --tls-key FILE",
    ),
    "strange certificate": (
        "mutual",
        ["--tls-root", "ca.crt", "--tls-cert", "stranger.crt", "--tls-key", "stranger.key"],
        "it does not accept the certificate of the client; check tls=Tls(certificate=..., key=...)",
        "it does not accept the certificate of the client; check --tls-cert FILE and --tls-key FILE",
    ),
    "http": ("http", [], "it answers, but not in gRPC; is this the HTTP port?", ""),
}


def tls_of(options: list[str], files: Path) -> Tls | None:
    paths = [files / name for name in options[1::2]]
    return Tls(*paths) if paths else None


@pytest.mark.parametrize("case", CASES)
def test_a_program_is_told_what_to_change(places: Places, case: str) -> None:
    place, options, sentence, _ = CASES[case]
    target, tls = getattr(places, place), tls_of(options, places.files)

    async def asynchronous() -> None:
        async with AsyncClient(target, tls=tls) as client:
            await client.generate(seed=1)

    with pytest.raises(UnavailableError) as failed:
        asyncio.run(asynchronous())
    assert str(failed.value) == f"no ready ProGAN service at {target}: {sentence}"
    with Client(target, tls=tls) as client:
        with pytest.raises(UnavailableError) as failed:
            next(client.stream(seed=1))
        assert str(failed.value) == f"no ready ProGAN service at {target}: {sentence}"
        with pytest.raises(DeadlineExceededError) as late:
            client.wait_until_ready(timeout_s=0.1)
        assert str(late.value) == f"no ready ProGAN service at {target} within 0.1 s: {sentence}"


@pytest.mark.parametrize("case", CASES)
def test_the_command_says_it_in_its_own_words(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    place, options, sentence, said = CASES[case]
    target = getattr(places, place)
    monkeypatch.chdir(places.files)
    assert main.main(["--target", target, *options, "generate", "--seed", "1", "-o", "a.png"]) == 1
    assert capsys.readouterr() == ("", f"progan-client: no ready ProGAN service at {target}: {said or sentence}\n")


def health(target: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`progan-client health` in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [COMMAND, "--target", target, *options, "health"]
    return subprocess.run(command, capture_output=True, text=True, env=inherited | environment, check=False)


def test_grpc_writes_no_lines_of_its_own(places: Places) -> None:
    done = health(places.plain, "--tls-root", str(places.files / "ca.crt"))
    sentence = "it does not speak TLS; leave out --tls and --tls-root"
    assert done.stderr == f"progan-client: no ready ProGAN service at {places.plain}: {sentence}\n"


def test_what_a_user_sets_for_grpc_is_kept(places: Places) -> None:
    done = health(places.plain, "--tls-root", str(places.files / "ca.crt"), GRPC_VERBOSITY="info")
    assert "Handshake failed" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("progan-client: no ready ProGAN service at")


def test_a_host_that_is_unknown() -> None:
    with Client("nowhere.invalid:8500") as client, pytest.raises(UnavailableError) as failed:
        client.generate(seed=1)
    assert str(failed.value) == "no ready ProGAN service at nowhere.invalid:8500: no such host; check the address"


@pytest.mark.parametrize(
    ("token", "sentence"),
    [("", "needs a token; give token=..."), ("wrong-token-0123456789", "does not know the token; check token=...")],
)
def test_a_token_that_is_missing_or_wrong(places: Places, token: str, sentence: str) -> None:
    with Client(places.plain, token=token) as client, pytest.raises(UnauthenticatedError) as refused:
        client.generate(seed=1)
    assert str(refused.value) == f"{places.plain} {sentence}"


TOKEN_FILES = {
    "": "must contain a token",
    "\n": "must contain a token",
    f"# who may call\nalice {TOKEN}\nbob {TOKEN}\n": "must contain the token alone, not NAME TOKEN as in the list of "
    "the server",
    f"alice {TOKEN}\n": "must contain the token alone, not NAME TOKEN as in the list of the server",
    f"{TOKEN}\n{TOKEN}\n": "must contain one line with the token, not 2",
    f"sécret{TOKEN}\n": "must contain one word of printable ASCII characters",
    "a\tb c\n": "must contain one word of printable ASCII characters",
}


@pytest.mark.parametrize("content", TOKEN_FILES)
def test_a_file_that_is_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    assert main.main(["--token-file", str(file), "health"]) == 2
    assert capsys.readouterr().err == f"progan-client: --token-file: {TOKEN_FILES[content]}; got '{file}'\n"


def test_a_token_goes_to_another_machine_without_tls_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGAN_TOKEN", TOKEN)
        assert main.main(["--target", "nowhere.invalid:8500", "health"]) == 2
        assert main.main(["--target", "nowhere.invalid:8500", "--allow-plain-token", "health"]) == 1
    assert capsys.readouterr().err == (
        "progan-client: --token-file: needs TLS to another machine, or others could read it; --allow-plain-token sends "
        "it anyway; got 'nowhere.invalid:8500'\n"
        "progan-client: no ready ProGAN service at nowhere.invalid:8500: no such host; check the address\n"
    )


@pytest.mark.parametrize("token", ["two words", "line\n", "sécret", "Bearer x"])
def test_a_token_is_one_word_of_ascii(token: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        Client(token=token)
    assert str(refused.value) == "token: must be one word of printable ASCII; got 'other characters'"


@pytest.mark.parametrize(
    ("options", "argument", "rule"),
    [
        ({"root": "tokens"}, "root", "must be a PEM file of certificates"),
        (
            {"certificate": "client.crt", "key": "server.key"},
            "certificate, key",
            "must be PEM files of a certificate and its private key, without a passphrase",
        ),
    ],
)
def test_files_that_are_no_certificates(places: Places, options: dict[str, str], argument: str, rule: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        Client(places.tls, tls=Tls(**{name: places.files / file for name, file in options.items()}))
    assert (refused.value.argument, refused.value.rule) == (argument, rule)


def test_a_request_above_the_size_of_a_message_is_told_apart_from_a_busy_service(server_target: str) -> None:
    with Client(server_target) as client, pytest.raises(MessageTooLargeError) as refused:
        client.generate(latents=np.ones((17, 2**20), np.float32))
    sentence = r"the request has \d+ bytes, and a message at most 67108864; give fewer images in a call"
    assert refused.match(sentence)
    assert refused.value.retry_after_s is None
