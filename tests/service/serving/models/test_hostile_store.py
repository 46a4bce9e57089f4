"""A store that somebody broke on purpose: what is bad fails with a sentence, and everything else goes on."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Served, served

from progan_protos.v1 import image_generator_pb2 as pb

Publish = Callable[..., int]
Spoil = Callable[[Path], object]

PATIENCE_S = 120


def read_bytes(server: Served) -> int:
    """How many bytes the process has read, from anywhere."""
    counts = Path(f"/proc/{server.process.pid}/io").read_text().split()
    return int(counts[counts.index("rchar:") + 1])


def changed(**values: object) -> Spoil:
    """Give values of progan.json these other values."""

    def spoil(version: Path) -> None:
        file = version / "progan.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


def replaced(content: str | bytes) -> Spoil:
    """Let progan.json have another content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda version: (version / "progan.json").write_bytes(data)


def instead(make: Callable[[Path], object]) -> Spoil:
    """Let something else be at the place of progan.json."""

    def spoil(version: Path) -> None:
        (version / "progan.json").unlink()
        make(version / "progan.json")

    return spoil


def a_socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{directory}/{path.name}")  # the names of sockets must be short
    os.close(directory)


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, 300 * 2**20)


def no_utf_8(version: Path) -> None:
    (version / os.fsdecode(b"extra-\xff\n")).touch()


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


METADATA = "progan.json: not readable as model metadata "
DEEP = "nested too deep: must have at most 20 objects and lists within each other"
SPOILED: dict[str, tuple[Spoil, str]] = {
    "deep": (replaced('{"a":' * 100_000), f"{METADATA}(is {DEEP})"),
    "deep-list": (replaced('{"provenance": ' + "[" * 990 + "]" * 990 + "}"), f"{METADATA}(is {DEEP})"),
    "deep-provenance": (changed(provenance=nested(900)), f"{METADATA}(is {DEEP})"),
    "label-names": (changed(label_names=[1, 2]), f"{METADATA}(label_names[0] is 1: must be text)"),
    "latent-size": (
        changed(latent_size=2**40),
        f"{METADATA}(latent_size is 1099511627776: must be a whole number from 1 to 65536)",
    ),
    "resolution": (changed(resolution=10**40), "must be a whole number from 1 to 16384)"),
    "channels": (changed(channels=2), f"{METADATA}(channels is 2: must be 1 or 3)"),
    "half-character": (
        changed(label_names=["a", "\ud800"]),
        f"{METADATA}(label_names[1] is '\\ud800': must be Unicode text)",
    ),
    "half-file": (changed(files={"\udcff": "0" * 64}), "(a file in files is '\\udcff': must be the name of a file"),
    "half-key": (changed(golden={"\udcff": 1}), "(golden.'\\udcff' is 1: must be text)"),
    "no-utf-8": (no_utf_8, "/extra-\\udcff\\n: not listed in progan.json"),
    "digest": (changed(files={"saved_model.pb": 7}), "(files.saved_model.pb is 7: must be text)"),
    "elsewhere": (changed(golden={"0": "../../../etc/passwd"}), "(a file in golden is '../../../etc/passwd': must be "),
    "absolute": (changed(files={"/etc/passwd": "0" * 64}), "(a file in files is '/etc/passwd': must be the name of "),
    "nul": (changed(golden={"0": "a\0b"}), "(a file in golden is 'a\\x00b': must be the name of a file"),
    "many-golden": (
        changed(golden={str(seed): "golden.png" for seed in range(100_000)}),
        f"{METADATA}(the number of golden pictures is 100000: must be at most 256)",
    ),
    "seed": (changed(golden={str(2**64): "golden.png"}), "must be a whole number from 0 to 2^64 - 1)"),
    "nan": (changed(bfloat16_psnr_db=float("nan")), "(bfloat16_psnr_db is nan: must be a number from 0 on, or null)"),
    "many-values": (
        changed(provenance={"list": [0] * 100_000}),
        f"{METADATA}(the number of values in provenance is 100002: must be at most 100000)",
    ),
    "twice": (replaced('{"files": {}, "files": {}}'), f"{METADATA}(has the name 'files' twice in one object)"),
    "no-json": (replaced(b"\xff\x00"), f"{METADATA}(is no JSON: "),
    "digits": (replaced('{"latent_size": 1' + "0" * 5000 + "}"), f"{METADATA}(is no JSON: Exceeds the limit"),
    "large": (instead(large), f"{METADATA}(has 314572800 bytes: must have at most 4194304)"),
    "directory": (instead(Path.mkdir), f"{METADATA}(is a directory: must be a file)"),
    "pipe": (instead(os.mkfifo), f"{METADATA}(is a named pipe: must be a file)"),
    "socket": (instead(a_socket), f"{METADATA}(is a socket: must be a file)"),
    "device": (instead(lambda path: path.symlink_to("/dev/zero")), f"{METADATA}(is a device: must be a file)"),
    "loop": (instead(lambda path: path.symlink_to(path)), ": is a loop of symbolic links; "),
    "missing": (instead(lambda _: None), "progan.json: missing; every version needs one"),
}

ROLLOUT = "rollout.json: not readable as a rollout "
ROLLOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (lambda path: path.write_text('{"a":' * 10_000), f"{ROLLOUT}(is {DEEP})"),
    "pin": (lambda path: path.write_text(json.dumps({"pinned": 10**40})), f"{ROLLOUT}(pinned is 1000"),
    "half-label": (lambda path: path.write_text('{"labels": {"\\ud800": 1}}'), f"{ROLLOUT}(label is '\\ud800': must"),
    "large": (large, f"{ROLLOUT}(has 314572800 bytes: must have at most 65536)"),
    "pipe": (os.mkfifo, f"{ROLLOUT}(is a named pipe: must be a file)"),
    "absent": (lambda path: path.write_text('{"pinned": 7}'), "version 7 is pinned, and not in the store"),
}


@pytest.fixture
def good(tmp_path: Path, publish_puppet: Publish) -> Path:
    """A store with the model `good`, version 1."""
    publish_puppet(tmp_path, "good", golden=100)
    return tmp_path


def spoil_versions(store: Path, name: str, spoils: list[Spoil]) -> None:
    """Let the model have a good version 1, and after it one for each of these."""
    shutil.copytree(store / "good" / "1", store / name / "1")
    for number, spoil in enumerate(spoils, start=2):
        spoil(Path(shutil.copytree(store / "good" / "1", store / name / str(number))))


def test_every_bad_file_is_a_sentence_and_the_other_versions_and_models_are_served_and_updated(
    good: Path, publish_puppet: Publish
) -> None:
    spoil_versions(good, "bad", [spoil for spoil, _ in SPOILED.values()])
    shutil.copytree(good / "good" / "1", good / "rollout-deep" / "1")
    for name, (spoil, _) in ROLLOUTS.items():
        (good / f"rollout-{name}" / "1").mkdir(parents=True, exist_ok=True)
        spoil(good / f"rollout-{name}" / "rollout.json")
    for stray in (b"faces-\xff", b"faces\n", b"x" * 200, b"good/01", b"good/" + b"9" * 40, "good/1٣".encode()):
        os.makedirs(os.fsencode(good) + b"/" + stray)
    (good / "a-file").touch()
    (good / "loop").symlink_to(good / "loop")
    with served("--store", good, "--model", "good", "--poll-s", "3", "--max-batch-size", "1") as server:
        assert {server.line("ready: ")["model"] for _ in range(3)} == {"bad", "good", "rollout-deep"}
        listed = server.stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
        models = {model.name: model for model in listed}
        assert sorted(models) == ["bad", "good", *(f"rollout-{name}" for name in sorted(ROLLOUTS))]
        broken = {version.version: version for version in models["bad"].versions}
        for number, (case, (_, sentence)) in enumerate(SPOILED.items(), start=2):
            assert broken[number].state == pb.MODEL_STATE_FAILED, case
            assert sentence in broken[number].error, case
        for name, (_, sentence) in ROLLOUTS.items():
            assert sentence in models[f"rollout-{name}"].error
        assert [name for name, model in models.items() if model.serving_version] == ["bad", "good", "rollout-deep"]
        before = read_bytes(server)
        publish_puppet(good, "good", base=50)
        server.line("model good: version 2 takes over from 1")
        assert read_bytes(server) - before < 200 * 2**20  # two files of 300 MiB are not read at each poll
        assert server.stop() == 0
    assert not [line for line in server.lines if "exception" in line]


def test_the_commands_say_the_same_sentences(good: Path, progan: Callable[..., Any]) -> None:
    spoil_versions(good, "bad", [spoil for spoil, _ in SPOILED.values()])
    listed, verified, pinned = (
        progan("models", "--store", good),
        progan("models", "verify", "--store", good, "bad"),
        progan("models", "pin", "--store", good, "bad", 2),
    )
    assert (listed.code, verified.code, pinned.code) == (0, 1, 78)
    for number, (case, (_, sentence)) in enumerate(SPOILED.items(), start=2):
        shown = "/extra-\\xff\n: not listed in progan.json" if case == "no-utf-8" else sentence
        assert f"bad version {number}: {good}/bad/{number}" in listed.out, case
        assert shown in listed.out, case
        assert shown in verified.out, case
    assert pinned.err == f"progan: {good}/bad/2/{SPOILED['deep'][1]}\n"
