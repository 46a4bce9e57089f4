"""Long replies in JSON are written in pieces, between which other callers are answered."""

import base64
import json

import numpy as np
import pytest
from google.protobuf import json_format

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.http import json_pieces
from progan_service.serving.http.connect.codecs import Json

RANDOM = np.random.default_rng(5)


def loaded(pieces: list[bytes]) -> np.ndarray:
    return np.array(json.loads(b"[" + b"".join(pieces) + b"]"))


def test_numbers_are_written_as_short_as_they_are() -> None:
    [row] = json_pieces.pixels(np.array([[[0, 7, 255], [1, 2, 3]]], np.uint8), json_pieces.LEVELS)
    assert row == b"[[0,7,255],[1,2,3]]"
    [row] = json_pieces.pixels(np.array([[[0], [1], [255]]], np.uint8), json_pieces.UNIT)
    assert row == b"[[0.0],[0.003921569],[1.0]]"


def test_no_values_are_no_pieces() -> None:
    assert list(json_pieces.levels(np.zeros(0, np.uint8))) == []
    assert list(json_pieces.numbers(np.zeros(0, np.float32))) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_no_piece_of_a_large_image_is_long(channels: int) -> None:
    image = RANDOM.integers(0, 256, (192 // channels, 1024, channels), np.uint8)
    for texts, unit in ((json_pieces.LEVELS, 1), (json_pieces.UNIT, 255)):
        pieces = list(json_pieces.pixels(image, texts))
        assert max(map(len, pieces)) < 2**20
        np.testing.assert_array_equal(loaded(pieces).astype(np.float32), image / np.float32(unit))


def test_no_piece_of_a_long_list_or_file_is_long() -> None:
    levels = RANDOM.integers(0, 256, 1_000_003, np.uint8)
    pieces = list(json_pieces.levels(levels))
    assert max(map(len, pieces)) < 2**20
    np.testing.assert_array_equal(loaded(pieces), levels)

    numbers = RANDOM.standard_normal(5_001).astype(np.float32)
    pieces = list(json_pieces.numbers(numbers))
    assert max(map(len, pieces)) < 2**15
    np.testing.assert_array_equal(loaded(pieces), numbers)

    content = RANDOM.bytes(1_000_003)
    pieces = list(json_pieces.file(content))
    assert max(map(len, pieces)) < 2**20
    assert base64.b64decode(json.loads(b"".join(pieces))) == content


def test_connects_json_is_that_of_protobuf() -> None:
    reply = pb.GenerateResponse(
        images=pb.Images(count=3, pixels=RANDOM.bytes(1_000_003), files=[b"first", b"", RANDOM.bytes(1000)]),
        latents=pb.FloatMatrix(rows=1, columns=2, values=b"\0" * 8),
        model=pb.ServedModel(name="ünë", version=3),
    )
    written = Json().write(reply.SerializeToString(), pb.GenerateResponse)
    assert written == json_format.MessageToJson(reply, indent=None).encode()
