"""A server edits latents, evens walks out, and lists the directions of its versions."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import ServerConfig
from progan_service.serving.server import Server
from progan_service.store.digests import sha256_of
from progan_service.store.directions import DIRECTIONS_FILE, Direction
from progan_service.store.metadata import METADATA_FILE
from progan_service.store.store import ModelStore

PATIENCE_S = 60
LATENT = (1, 2, 2, 4)  # of length 5; a puppet's first number is its shade: its image is 100 + 10 * 1

SHADE = Direction("shade", (1.0, 0.0, 0.0, 0.0), "fitted", 2000, r=0.75, monotone=0.5, shift_sd=0.25)
LAST = Direction("last", (0.0, 0.0, 0.0, 1.0), "discovered", 4096)
PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, publish_puppet: Callable[..., int]) -> ModelStore:
    """`puppet`, whose version 2 has directions, and `labelled`."""
    found = ModelStore(tmp_path_factory.mktemp("store"))
    publish_puppet(found.root, "puppet")
    found.publish_directions("puppet", 1, [SHADE, LAST])
    publish_puppet(found.root, "labelled", labels=2)
    return found


@pytest.fixture(scope="module")
def stub(
    store: ModelStore, run_server: Callable[[ServerConfig], AbstractContextManager[Server]]
) -> Iterator[pb_grpc.ImageGeneratorServiceStub]:
    config = ServerConfig(store.root, model="puppet", port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield pb_grpc.ImageGeneratorServiceStub(channel)


def matrix(*rows: tuple[float, ...]) -> pb.FloatMatrix:
    return pb.FloatMatrix(rows=len(rows), columns=len(rows[0]), values=np.array(rows, "<f4").tobytes())


def vectors(*rows: tuple[float, ...]) -> pb.Latents:
    return pb.Latents(vectors=matrix(*rows))


def shaded(*shades: float) -> pb.Latents:
    return vectors(*((shade, 0, 0, 1) for shade in shades))


def greys(images: pb.Images) -> list[int]:
    """The first value of each image of raw pixels."""
    return [image[0] for image in np.frombuffer(images.pixels, np.uint8).reshape(images.count, -1).tolist()]


def shade_of(stub: pb_grpc.ImageGeneratorServiceStub, *edits: pb.Edit) -> list[int]:
    reply = stub.Generate(pb.GenerateRequest(latents=vectors(LATENT), edits=edits), timeout=PATIENCE_S)
    return greys(reply.images)


def test_an_image_is_moved_along_a_direction_or_to_a_value(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    assert shade_of(stub) == [110]
    assert shade_of(stub, pb.Edit(direction="shade", offset=1)) == [135]
    assert shade_of(stub, pb.Edit(direction="shade", offset=-1)) == [85]
    assert shade_of(stub, pb.Edit(direction="shade", set=0.5)) == [112]


def test_the_reply_has_the_edited_latents(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    edit = pb.Edit(direction="shade", offset=1, hold=["last"])
    request = pb.GenerateRequest(latents=vectors(LATENT), edits=[edit])
    latents = stub.Generate(request, timeout=PATIENCE_S).latents
    np.testing.assert_allclose(np.frombuffer(latents.values, "<f4"), [3.5, 1.45774, 1.45774, 2.91548], atol=1e-5)


def test_a_stream_is_edited_like_a_lone_image(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    seeds = pb.Latents(seed_range=pb.SeedRange(first_seed=0, count=40))
    edits = [pb.Edit(direction="shade", set=0.5), pb.Edit(direction="last", set=-0.5)]
    request = pb.StreamGenerateRequest(latents=seeds, edits=edits)
    parts = [part.latents for part in stub.StreamGenerate(request, timeout=PATIENCE_S)]
    streamed = np.concatenate([np.frombuffer(part.values, "<f4").reshape(-1, 4) for part in parts])
    for seed in (0, 39):
        alone = pb.GenerateRequest(latents=pb.Latents(seeds=pb.SeedList(seeds=[seed])), edits=edits)
        latents = stub.Generate(alone, timeout=PATIENCE_S).latents
        assert streamed[seed].tobytes() == latents.values


def test_key_frames_are_edited_and_the_walk_goes_over_them(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    edits = [pb.Edit(direction="shade", set=1)]
    request = pb.InterpolateRequest(key_frames=vectors(LATENT, (4, 2, 2, -1)), frames_between=1, edits=edits)
    frames = [grey for part in stub.Interpolate(request, timeout=PATIENCE_S) for grey in greys(part.images)]
    assert frames == [125, 129, 125]


def texts(file: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(file)) as picture:
        return {name: picture.text[name] for name in ("Seed", "Edits") if name in picture.text}  # type: ignore[attr-defined]


def test_a_png_of_a_seed_says_how_it_was_edited(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    seed = pb.Latents(seeds=pb.SeedList(seeds=[5]))
    edits = [pb.Edit(direction="shade", offset=0.5, hold=["last"])]

    def made(**fields: Any) -> dict[str, str]:
        (file,) = stub.Generate(pb.GenerateRequest(format=PNG, **fields), timeout=PATIENCE_S).images.files
        return texts(file)

    assert made(latents=seed) == {"Seed": "5"}
    assert made(latents=seed, edits=edits) == {"Seed": "5", "Edits": "shade +0.5 hold last"}
    assert made(latents=vectors(LATENT), edits=edits) == {}


def refusal(call: Any) -> tuple[str, list[str]]:
    """Code and fields."""
    with pytest.raises(grpc.RpcError) as error:
        list(call) if hasattr(call, "__next__") else call()
    status = status_pb2.Status.FromString(dict(error.value.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    return f"{error.value.code().name} {error.value.details()}", [item.field for item in bad.field_violations]


def test_what_cannot_be_edited_is_named(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    def generate(*edits: pb.Edit, **fields: Any) -> Callable[[], pb.GenerateResponse]:
        request = pb.GenerateRequest(**{"latents": vectors(LATENT), **fields}, edits=edits)
        return lambda: stub.Generate(request, timeout=PATIENCE_S)

    assert refusal(generate(pb.Edit(direction="shadow", offset=1))) == (
        "INVALID_ARGUMENT edits[0].direction: is 'shadow'; this version has: shade, last",
        ["edits[0].direction"],
    )
    assert refusal(generate(pb.Edit(direction="shade", offset=2), latents=vectors((4, 3, 0, 0), LATENT))) == (
        "INVALID_ARGUMENT edits: need 1.80 of the length of latent 0, and at most 0.95 is allowed; give smaller "
        "amounts, or fewer",
        ["edits"],
    )
    assert refusal(generate(pb.Edit(direction="shade", offset=1), model=pb.ModelSelector(name="labelled"))) == (
        "FAILED_PRECONDITION edits were given, and this version of the model has no directions; `progan directions` "
        "makes them",
        [],
    )


def test_an_edit_that_goes_too_far_in_mid_stream_ends_it_and_names_the_latent(
    stub: pb_grpc.ImageGeneratorServiceStub,
) -> None:
    latents = vectors(*[LATENT] * 50, (4, 3, 0, 0))
    request = pb.StreamGenerateRequest(latents=latents, edits=[pb.Edit(direction="shade", offset=1)])
    sentence, fields = refusal(stub.StreamGenerate(request, timeout=PATIENCE_S))
    assert "edits: need 1.30 of the length of latent 50" in sentence
    assert fields == ["edits"]


def test_directions_are_listed_with_the_version_that_serves(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    model = stub.GetModel(pb.GetModelRequest(name="puppet"), timeout=PATIENCE_S).model
    assert [(version.version, list(version.directions)) for version in model.versions] == [
        (
            2,
            [
                pb.Direction(name="shade", origin=pb.DIRECTION_ORIGIN_FITTED, r=0.75, monotone=0.5, shift_sd=0.25),
                pb.Direction(name="last", origin=pb.DIRECTION_ORIGIN_DISCOVERED),
            ],
        ),
        (1, []),
    ]


def test_a_version_with_bad_directions_fails_by_name_and_the_one_before_serves(
    store: ModelStore, tmp_path: Path, run_server: Callable[[ServerConfig], AbstractContextManager[Server]]
) -> None:
    root = Path(shutil.copytree(store.root, tmp_path / "store"))
    bad = root / "puppet" / "3"
    shutil.copytree(root / "puppet" / "2", bad)
    (bad / DIRECTIONS_FILE).write_text(json.dumps({"directions": [{"name": "a", "vector": [1.0], "origin": "fitted"}]}))
    metadata = json.loads((bad / METADATA_FILE).read_text())
    metadata["files"][DIRECTIONS_FILE] = sha256_of(bad / DIRECTIONS_FILE)
    (bad / METADATA_FILE).write_text(json.dumps(metadata))
    config = ServerConfig(root, model="puppet", port=0, http_port=0, lame_duck_s=0)
    with run_server(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answers = pb_grpc.ImageGeneratorServiceStub(channel)
        assert shade_of(answers, pb.Edit(direction="shade", offset=1)) == [135]
        versions = answers.GetModel(pb.GetModelRequest(name="puppet"), timeout=PATIENCE_S).model.versions
    assert versions[0].state == pb.MODEL_STATE_FAILED
    assert versions[0].error.endswith(
        "puppet/3/directions.json: not readable as directions (the size of the vector of 'a' is 1: must be 4, the "
        "latent_size)"
    )


# --- an even pace ---


def even(stub: pb_grpc.ImageGeneratorServiceStub, **fields: Any) -> list[int]:
    request = pb.InterpolateRequest(pace=pb.PACE_EVEN, path=pb.INTERPOLATION_PATH_LINEAR, **fields)
    return [grey for part in stub.Interpolate(request, timeout=PATIENCE_S) for grey in greys(part.images)]


def test_at_an_even_pace_the_image_changes_by_the_same_with_each_frame(
    stub: pb_grpc.ImageGeneratorServiceStub,
) -> None:
    """From 100 to 120 and on to 200: at a uniform pace the steps would be 4 and 16."""
    frames = even(stub, key_frames=shaded(0, 2, 10), frames_between=4)
    np.testing.assert_allclose(frames, [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200], atol=1)


def test_in_an_even_loop_the_way_back_counts(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    frames = even(stub, key_frames=shaded(0, 2, 10), frames_between=3, loop=True)
    np.testing.assert_allclose(frames, [100, 117, 133, 150, 167, 183, 200, 183, 167, 150, 133, 117], atol=2)


def test_the_labels_of_an_even_walk_go_with_its_latents(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    labels = matrix((1, 0), (0.75, 0.25), (0, 1))
    model = pb.ModelSelector(name="labelled")
    frames = even(stub, model=model, key_frames=shaded(1, 2, 3), frames_between=1, labels=labels)
    np.testing.assert_allclose(frames, [0, 25, 50, 75, 100], atol=1)


def test_the_rest_of_an_even_walk_is_that_of_the_whole(stub: pb_grpc.ImageGeneratorServiceStub) -> None:
    whole = even(stub, key_frames=shaded(0, 2, 10), frames_between=9)
    assert even(stub, key_frames=shaded(0, 2, 10), frames_between=9, first_index=17) == whole[17:]
