"""The licence of data is text, and at most 64 KiB of it."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan_client import Client
from progan_service.license import MAX_BYTES, is_license_name, text_of, tidy
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server


@pytest.mark.parametrize("name", ["LICENSE", "set/licence.txt", "COPYING.md", "License.rst", "COPYING.TXT"])
def test_names_of_licences(name: str) -> None:
    assert is_license_name(name)


@pytest.mark.parametrize("name", ["license.jpg", "LICENSE.pdf", "LICENSES", "unlicensed.txt", "LICENSE/a.txt", "notes"])
def test_other_names_are_none(name: str) -> None:
    assert not is_license_name(name)


def test_a_text_is_read_in_utf_8_or_latin_1() -> None:
    assert text_of("© Müller".encode()) == "© Müller"
    assert text_of(b"\xef\xbb\xbfMIT") == "MIT"
    assert text_of("© Müller".encode("latin-1")) == "© Müller"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_text_in_utf_16_is_read_by_its_mark(encoding: str) -> None:
    assert text_of("\ufeff© Müller\r\n".encode(encoding)) == "© Müller\n"
    assert text_of("\ufeffa\0b".encode(encoding)) == ""


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x89PNG\r\n\x1a\n", b"a\0b", b""])
def test_other_content_is_no_licence(content: bytes) -> None:
    assert text_of(content) == ""


def test_lines_end_with_a_line_feed() -> None:
    assert tidy("MIT\r\n\r\nCopyright\rAda\n") == "MIT\n\nCopyright\nAda\n"


def test_the_longest_licence_stays_whole() -> None:
    assert tidy("x" * MAX_BYTES) == "x" * 65_536


@pytest.mark.parametrize("character", ["x", "é", "許"])
def test_a_longer_one_is_cut_with_a_note(character: str) -> None:
    cut = tidy(character * (MAX_BYTES + 1))
    assert cut.startswith(character * 20_000)
    assert cut.endswith(f"{character} ... (cut: the licence is longer than 64 KiB)")
    assert MAX_BYTES - 3 < len(cut.encode()) <= MAX_BYTES
    assert tidy(cut) == cut


def test_a_torn_character_is_replaced() -> None:
    assert tidy("attic\ud83c") == "attic?"


# From the folder of pictures to the pictures that are served


def test_a_served_picture_has_the_licence_of_the_data(
    tmp_path: Path, progan: Callable[..., Any], run_server: Callable[[ServerConfig], AbstractContextManager[Server]]
) -> None:
    folder, data, run, store = (tmp_path / name for name in ("pictures", "data", "run", "store"))
    folder.mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "LICENSE").write_bytes("Attribution 4.0\r\n© Ada\r\n".encode())
    for command in (
        ("dataset", "build", folder, data, "--resolution", 4),
        ("train", "--data", data, "--run", run, "--fmap-base", 8, "--fmap-max", 4, "--total-kimg", 0.016),
        ("export", run, "--store", store, "--name", "pictures"),
    ):
        assert progan(*command).code == 0
    config = ServerConfig(store, port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        (file,) = client.generate(seeds=[1], encoding="png").files
        version = client.model("pictures").version()
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.text["License"] == "Attribution 4.0\n© Ada\n"  # type: ignore[attr-defined]
    assert version.license == "Attribution 4.0\n© Ada\n"
    assert "license" not in version.provenance["dataset"]
