"""The settings of `progan serve`: by flag, environment, file or default, and logged with their source."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from progan_command import help_of, refusal

from progan_service.commands.parser import parser
from progan_service.errors import ConfigError
from progan_service.serving.config import BatchingConfig, LogConfig, ServerConfig
from progan_service.settings.manual import given_settings
from progan_service.settings.source import Sourced, read_settings, unknown_variables
from progan_service.store.bundled import BUNDLED_STORE

FOREIGN = {
    "HOME": "/root",
    "PROGAN_TARGET": "elsewhere:8500",
    "PROGAN_TOKEN": "secret",
    "PROGAN_SERVICE_HOST": "10.0.0.1",
    "PROGAN_SERVICE_PORT": "8500",
    "PROGAN_SERVICE_PORT_GRPC": "8500",
    "PROGAN_PORT": "tcp://10.0.0.1:8500",
    "PROGAN_PORT_8500_TCP": "tcp://10.0.0.1:8500",
    "PROGAN_PORT_8500_TCP_ADDR": "10.0.0.1",
    "PROGAN_HTTP_PORT": "tcp://10.0.0.2:8501",
    "PROGAN_WEB_SERVICE_HOST": "10.0.0.3",
    "PROGAN_MODEL": "",
}

Progan = Callable[..., Any]  # see tests/service/conftest.py


def read(*flags: object, environment: dict[str, str] | None = None) -> Sourced[ServerConfig]:
    arguments = parser().parse_args(["serve", *map(str, flags)])
    return read_settings(
        ServerConfig,
        flags=given_settings(arguments, ServerConfig),
        environment=FOREIGN | (environment or {}),
        file=arguments.config,
    )


def configured(*flags: object, **environment: str) -> ServerConfig:
    return read(*flags, environment=environment).config


def refused(*flags: object, **environment: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        configured(*flags, **environment)
    return str(refusal.value)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """A configuration file with this text."""

    def write(text: str) -> Path:
        path = tmp_path / "progan.toml"
        path.write_text(text)
        return path

    return write


File = Callable[[str], Path]

# Setting -> another value than the default, as a flag or variable has it; as TOML has it; as it is kept.
VALUES: dict[str, tuple[str, str, Any]] = {
    "store": ("gs://bucket/models", '"gs://bucket/models"', "gs://bucket/models"),
    "cache": ("/var/cache", '"/var/cache"', Path("/var/cache")),
    "model": ("faces", '"faces"', "faces"),
    "revision": ("5ccefbc", '"5ccefbc"', "5ccefbc"),
    "poll_s": ("0.5", "0.5", 0.5),
    "host": ("0.0.0.0", '"0.0.0.0"', "0.0.0.0"),
    "port": ("9000", "9000", 9000),
    "http_port": ("9001", "9001", 9001),
    "playground": ("false", "false", False),
    "tls_cert": ("tls.crt", '"tls.crt"', Path("tls.crt")),
    "tls_key": ("tls.key", '"tls.key"', Path("tls.key")),
    "client_ca": ("ca.crt", '"ca.crt"', Path("ca.crt")),
    "tokens": ("tokens", '"tokens"', Path("tokens")),
    "max_images": ("7", "7", 7),
    "max_request_bytes": ("131072", "131_072", 131072),
    "max_reply_bytes": ("8388608", "8_388_608", 8388608),
    "max_unsent_bytes": ("268435456", "268_435_456", 268435456),
    "stall_s": ("5", "5", 5.0),
    "max_connections": ("100", "100", 100),
    "max_connections_per_address": ("10", "10", 10),
    "max_connection_idle_s": ("5", "5", 5.0),
    "max_connection_age_s": ("30", "30", 30.0),
    "replicas": ("2", "2", 2),
    "precision": ("auto", '"auto"', "auto"),
    "hang_s": ("90", "90", 90.0),
    "max_batch_size": ("8", "8", 8),
    "allowed_batch_sizes": ("2,8", "[2, 8]", (2, 8)),
    "max_queued_rows": ("64", "64", 64),
    "lame_duck_s": ("0", "0", 0.0),
    "drain_s": ("2.5", "2.5", 2.5),
    "log_format": ("json", '"json"', "json"),
    "log_level": ("debug", '"debug"', "debug"),
    "log_requests": ("false", "false", False),
}
KEPT = {name: kept for name, (_, _, kept) in VALUES.items()}


def flags_of_all() -> list[str]:
    flags = []
    for name, (given, _, _) in VALUES.items():
        option = name.replace("_", "-")
        flags += [f"--no-{option}"] if given == "false" else [f"--{option}", given]
    return flags


def kept(config: Any) -> dict[str, Any]:
    """Every field of a configuration and of those in it, by its name."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        found |= kept(value) if is_dataclass(value) else {field.name: value}
    return found


def test_every_field_of_the_server_is_a_flag_a_variable_and_a_key_of_the_file(file: File) -> None:
    variables = {f"PROGAN_{name.upper()}": given for name, (given, _, _) in VALUES.items()}
    document = "\n".join(f"{name} = {value}" for name, (_, value, _) in VALUES.items())
    assert kept(configured(*flags_of_all())) == KEPT
    assert kept(configured(**variables)) == KEPT
    assert kept(configured("--config", file(document))) == KEPT


def test_without_any_they_are_the_defaults() -> None:
    assert configured() == ServerConfig(BUNDLED_STORE, batching=BatchingConfig(), logs=LogConfig())


def test_a_flag_comes_before_the_environment_and_that_before_the_file(file: File) -> None:
    path = file("port = 1\nhttp_port = 1\nmax_images = 1\n")
    both = {"PROGAN_PORT": "2", "PROGAN_HTTP_PORT": "3"}
    config = configured("--config", path, "--port", 4, **both)
    assert (config.port, config.http_port, config.max_images, config.drain_s) == (4, 3, 1, 20)


def test_a_store_is_a_directory_or_a_url() -> None:
    assert configured("--store", "models").store == Path("models")
    assert configured(PROGAN_STORE="gs://bucket/models").store == "gs://bucket/models"


# What cannot be used


def test_a_wrong_value_is_refused_under_the_name_of_its_place(file: File) -> None:
    path = file('port = "8500"')
    assert refused(PROGAN_PORT="x") == "PROGAN_PORT is 'x': must be a whole number"
    assert refused(PROGAN_PORT="70000") == "PROGAN_PORT is 70000: must be 0 to 65535"
    assert refused("--port", 70000) == "--port is 70000: must be 0 to 65535"
    assert refused("--config", path) == f"{path}: port is '8500': must be a whole number"
    assert refused(PROGAN_POLL_S="soon") == "PROGAN_POLL_S is 'soon': must be a number"
    assert refused(PROGAN_LOG_REQUESTS="maybe") == "PROGAN_LOG_REQUESTS is 'maybe': must be true or false"
    assert refused(PROGAN_LOG_FORMAT="xml") == "PROGAN_LOG_FORMAT is 'xml': must be auto, text or json"
    assert refused(PROGAN_ALLOWED_BATCH_SIZES="1;4") == (
        "PROGAN_ALLOWED_BATCH_SIZES is '1;4': must be whole numbers, such as 1,4,16"
    )


def test_a_rule_about_two_settings_names_the_one_that_was_given() -> None:
    assert refused("--max-batch-size", 2000) == "--max-queued-rows is 1024: must be at least --max-batch-size 2000"
    assert refused("--tls-cert", "a.crt") == "--tls-cert is 'a.crt': needs --tls-key, too"
    assert refused("--port", 9000, "--http-port", 9000) == "--http-port is 9000: must differ from --port"


def test_a_rule_about_two_settings_names_them_as_they_were_given(file: File) -> None:
    assert refused(PROGAN_TLS_KEY="a.key") == "PROGAN_TLS_KEY is 'a.key': needs PROGAN_TLS_CERT, too"
    assert refused(PROGAN_MAX_BATCH_SIZE="2000") == (
        "PROGAN_MAX_QUEUED_ROWS is 1024: must be at least PROGAN_MAX_BATCH_SIZE 2000"
    )
    assert refused("--max-batch-size", 64, PROGAN_MAX_QUEUED_ROWS="4") == (
        "PROGAN_MAX_QUEUED_ROWS is 4: must be at least --max-batch-size 64"
    )
    path = file("client_ca = 'ca.crt'")
    assert refused("--config", path) == f"{path}: client_ca is 'ca.crt': needs tls_cert, too"
    path = file("max_batch_size = 2000")
    assert refused("--config", path) == f"{path}: max_queued_rows is 1024: must be at least max_batch_size 2000"
    assert refused("--config", path, "--max-queued-rows", 4) == (
        "--max-queued-rows is 4: must be at least max_batch_size 2000"
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("prot = 8500", "there is no setting 'prot': did you mean port?"),
        ("max-images = 7", "there is no setting 'max-images': did you mean max_images?"),
        ("[batching]\nmax_batch_size = 8", "there is no setting 'batching': did you mean max_batch_size?"),
        ("port = 8500.0", "port is 8500.0: must be a whole number"),
        ("port = true", "port is True: must be a whole number"),
        ("model = 5", "model is 5: must be text"),
        ("log_requests = 'no'", "log_requests is 'no': must be true or false"),
        ("allowed_batch_sizes = [1.5, 16]", "allowed_batch_sizes is [1.5, 16]: must be whole numbers, such as 1,4,16"),
        ("port 8500", "is not TOML: Expected '=' after a key in a key/value pair (at line 1, column 6)"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(file: File, document: str, problem: str) -> None:
    path = file(document)
    assert refused("--config", path).startswith(f"{path}: {problem}")


def test_a_file_that_is_nested_too_deeply_is_refused(file: File) -> None:
    path = file("a = " + "[" * 100_000)
    assert refused("--config", path).startswith(f"{path}: is not TOML: maximum recursion depth exceeded")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert refused("--config", path) == f"{path}: cannot be read: No such file or directory"


def test_a_wrong_flag_is_wrong_usage_and_the_rest_is_bad_configuration(
    progan: Progan, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = progan("serve", "--port", "x")
    assert usage.code == 2
    assert usage.err.endswith("progan serve: error: argument --port: must be a whole number; got 'x'\n")
    monkeypatch.setenv("PROGAN_PORT", "x")
    assert progan("serve") == (78, "", "progan: PROGAN_PORT is 'x': must be a whole number\n")


def test_serve_refuses_a_cache_for_a_store_that_is_not_copied(progan: Progan, tmp_path: Path) -> None:
    ended = progan("serve", "--store", tmp_path, "--cache", tmp_path / "cache")
    assert ended == refusal(
        f"--cache is '{tmp_path}/cache': must be left out: --store '{tmp_path}' is a directory and needs no copy"
    )


def test_serve_refuses_a_cache_that_holds_other_models(progan: Progan, tiny_store: Path) -> None:
    ended = progan("serve", "--store", "gs://bucket/models", "--cache", tiny_store, "--log-format", "text")
    assert ended == refusal(f"{tiny_store}: has models that are no copy of gs://bucket/models; give another directory")


# Variables that nobody reads


def test_a_misspelt_variable_is_warned_of_with_the_nearest_name() -> None:
    environment = FOREIGN | {"PROGAN_MAX_IMAGE": "7", "PROGAN_PROT": "", "PROGAN_TLS_CERTS": "a.pem", "PORT": "1"}
    assert unknown_variables(ServerConfig, environment) == [
        "PROGAN_MAX_IMAGE is no setting: did you mean PROGAN_MAX_IMAGES?",
        "PROGAN_PROT is no setting: did you mean PROGAN_PORT?",
        "PROGAN_TLS_CERTS is no setting: did you mean PROGAN_TLS_CERT?",
    ]


def test_the_variables_of_the_client_and_of_kubernetes_are_no_settings() -> None:
    assert unknown_variables(ServerConfig, FOREIGN) == []
    assert configured().port == 8500


def test_an_empty_variable_counts_as_not_given() -> None:
    given = read(environment={"PROGAN_PORT": "", "PROGAN_STORE": "", "PROGAN_LOG_REQUESTS": ""})
    assert (given.config, given.given) == (ServerConfig(), {})


def test_a_server_logs_the_warning_when_it_starts(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("progan"), "serve", "--log-format", "text", "--port", "0"]
    command += ["--tls-cert", tmp_path / "none.crt", "--tls-key", tmp_path / "none.key"]  # so that it ends at once
    environment = {"PATH": os.environ["PATH"], "PROGAN_MAX_IMAGE": "7", "PROGAN_TOKEN": "secret"}
    ended = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=120)
    first, *others = ended.stdout.splitlines()
    assert first.startswith("configuration: ")
    assert [line.split(" ", 2)[2] for line in others] == [
        "WARNING PROGAN_MAX_IMAGE is no setting: did you mean PROGAN_MAX_IMAGES?"
    ]


# The log


def test_the_line_about_a_fatal_error_comes_after_the_log(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("progan"), "serve", "--store", tmp_path / "none", "--port", "0"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    first, *_, last = [json.loads(line) for line in ended.stdout.splitlines()]
    assert first["message"].startswith("configuration: ")
    assert last["level"] == "CRITICAL"
    assert last["message"] == f"{tmp_path}/none: no such directory; a model store is a directory of models"


def test_every_setting_is_logged_with_its_value_and_its_source(file: File) -> None:
    path = file('log_level = "error"')
    settings = read("--config", path, "--store", "m", "--lame-duck-s", "7", environment={"PROGAN_PORT": "0"}).settings
    assert settings.keys() == VALUES.keys()
    assert settings["store"] == {"value": "m", "from": "flag"}
    assert settings["port"] == {"value": 0, "from": "environment"}
    assert settings["log_level"] == {"value": "error", "from": "file"}
    assert settings["lame_duck_s"] == {"value": 7, "from": "flag"}
    assert settings["allowed_batch_sizes"] == {"value": (1, 2, 4, 8, 16), "from": "default"}


def test_one_line_contains_what_is_no_default() -> None:
    assert str(read()) == "the rest by default"
    given = read("--lame-duck-s", 0, "--no-log-requests", environment={"PROGAN_ALLOWED_BATCH_SIZES": "4,16"})
    assert str(given) == (
        "lame_duck_s=0 (flag); allowed_batch_sizes=4,16 (environment); log_requests=false (flag); the rest by default"
    )


# The manual


@pytest.fixture
def manual() -> str:
    return help_of("serve")


def test_the_manual_has_every_setting_with_its_default_in_a_group(manual: str) -> None:
    text = " ".join(manual.split())
    for name in VALUES:
        assert f" --{name.replace('_', '-')} " in text.replace(",", " ")
    for default in ["the bundled models", "127.0.0.1", "8500", "powers of two", "5", "auto", "true"]:
        assert f"(default: {default})" in text
    titles = re.findall("^([a-z ]+):$", manual, flags=re.MULTILINE)
    assert {"model store", "listening", "security", "limits", "batching", "shutdown", "logging", "examples"} < set(
        titles
    )


def test_the_manual_fits_its_terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, request.getfixturevalue("manual").splitlines())) <= 80


def test_the_examples_of_the_manual_are_commands(manual: str, file: File) -> None:
    examples, document = manual.split("examples:\n")[1].split("  where progan.toml contains, for example:\n")
    commands = [line.split() for line in examples.splitlines() if " progan serve" in line]
    assert len(commands) == 4
    for command in commands:
        parser().parse_args(command[command.index("serve") :])
    assert configured("--config", file(document)).store == Path("/models")
