"""A server finds the latents of pictures: of an untrained network of 8x8 pixels with 16 numbers a latent."""

import base64
import io
import json
import logging
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray
from PIL import Image

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator
from progan_service.serving.config import BatchingConfig, ServerConfig
from progan_service.serving.server import Server
from progan_service.store.store import ModelStore

Stub = pb_grpc.ImageGeneratorServiceStub

PATIENCE_S = 120
PNG = pb.OutputFormat(encoding=pb.IMAGE_ENCODING_PNG)


@pytest.fixture(scope="module")
def store(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory, publish_puppet: Callable[..., int]) -> ModelStore:
    """`tiny`; `hats`, with the classes bare and hat; and `puppet`, of an earlier release."""
    found = ModelStore(tmp_path_factory.mktemp("store"))
    keras.utils.set_random_seed(3)
    hats = Generator(NetworkConfig(resolution=8, fmap_base=64, fmap_max=16, label_size=2, latent_size=4))
    export_version(Exportable.of(TrainedGenerator(hats, 8, 1.0, ("bare", "hat"), {"source": "tests"})), found, "hats")
    (found.root / "tiny").symlink_to(tiny_store / "tiny")
    publish_puppet(found.root, "puppet")
    return found


@pytest.fixture(scope="module")
def server(
    store: ModelStore,
    one_size: BatchingConfig,
    run_server: Callable[[ServerConfig], AbstractContextManager[Server]],
) -> Iterator[Server]:
    batching = replace(one_size, max_batch_size=4, allowed_batch_sizes=(4,))
    config = ServerConfig(store.root, model="tiny", port=0, http_port=0, lame_duck_s=0, batching=batching)
    with run_server(config) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Stub]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Stub(channel)


def images(stub: Stub, seed: int, count: int = 1, **fields: object) -> NDArray[np.uint8]:
    seeds = pb.Latents(seed_range=pb.SeedRange(first_seed=seed, count=count))
    return pixels(stub.Generate(pb.GenerateRequest(latents=seeds, **fields), timeout=PATIENCE_S).images)


def pixels(images: pb.Images) -> NDArray[np.uint8]:
    shape = (images.count, images.height, images.width, images.channels)
    return np.frombuffer(images.pixels, np.uint8).reshape(shape)


def file(image: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def inverted(stub: Stub, *pictures: bytes, **fields: object) -> list[pb.InvertResponse]:
    return list(stub.Invert(pb.InvertRequest(pictures=pictures, **fields), timeout=PATIENCE_S))


def refusal(stub: Stub, request: pb.InvertRequest) -> tuple[grpc.StatusCode, str, str]:
    """Return status, message and field."""
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.Invert(request, timeout=PATIENCE_S))
    error = raised.value
    field = ""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                request_fault = error_details_pb2.BadRequest()
                if detail.Unpack(request_fault):
                    field = request_fault.field_violations[0].field
    return error.code(), error.details(), field


def test_a_generated_image_is_found_again(stub: Stub) -> None:
    wanted = images(stub, 100, 3)
    replies = inverted(stub, *map(file, wanted), enough_db=45)
    assert sorted(reply.picture for reply in replies) == [0, 1, 2]
    for reply in replies:
        found = pixels(reply.images)[0]
        difference = np.square(found.astype(float) - wanted[reply.picture]).mean()
        assert reply.psnr_db == pytest.approx(10 * np.log10(255**2 / difference), abs=0.02)
        assert reply.psnr_db > 35
        assert reply.end in (pb.INVERSION_END_ENOUGH, pb.INVERSION_END_NO_GAIN, pb.INVERSION_END_BUDGET)
        assert (reply.model.name, reply.model.version) == ("tiny", 1)
        assert reply.times.inference.ToNanoseconds() > 0
    assert max(reply.psnr_db for reply in replies) > 43


def test_the_latent_makes_the_image_of_the_reply(stub: Stub) -> None:
    (reply,) = inverted(stub, file(images(stub, 7)[0]), max_evaluations=20)
    assert reply.evaluations <= 20
    again = pb.GenerateRequest(latents=pb.Latents(vectors=reply.latents))
    assert pixels(stub.Generate(again, timeout=PATIENCE_S).images).tobytes() == reply.images.pixels


def test_what_is_found_does_not_depend_on_other_callers(stub: Stub) -> None:
    picture, other = (file(image) for image in images(stub, 20, 2))
    alone = inverted(stub, picture, max_evaluations=60)[0].latents
    beside = threading.Thread(target=inverted, args=(stub, other, other, other))
    beside.start()
    among = inverted(stub, picture, max_evaluations=60)[0].latents
    beside.join()
    assert among == alone


def test_reports_come_while_it_goes_on(stub: Stub) -> None:
    *reports, last = inverted(stub, file(images(stub, 5)[0]), report_every=8, max_evaluations=24, enough_db=100)
    assert reports
    for report in reports:
        assert (report.end, report.images.count) == (pb.INVERSION_END_UNSPECIFIED, 0)
        assert (report.latents.columns, report.evaluations % 8) == (16, 0)
    assert (last.end, last.evaluations, last.images.count) == (pb.INVERSION_END_BUDGET, 24, 1)


def test_the_image_may_be_a_file(stub: Stub) -> None:
    (reply,) = inverted(stub, file(images(stub, 5)[0]), max_evaluations=4, format=PNG)
    with Image.open(io.BytesIO(reply.images.files[0])) as image:
        assert image.size == (8, 8)
        assert "Seed" not in image.text  # type: ignore[attr-defined]


def test_labels_are_used_or_found(stub: Stub) -> None:
    hats = pb.ModelSelector(name="hats")
    picture = file(images(stub, 1, model=hats, label_names=["hat"])[0])
    (given,) = inverted(stub, picture, model=hats, label_names=["hat"], max_evaluations=200)
    assert np.frombuffer(given.labels.values, "<f4").tolist() == [0, 1]
    assert given.psnr_db > 35
    (found,) = inverted(stub, picture, model=hats)
    assert sorted(np.frombuffer(found.labels.values, "<f4").tolist()) == [0, 1]
    assert (found.labels.rows, found.latents.columns) == (1, 4)


def test_pictures_of_other_shapes_become_square(stub: Stub) -> None:
    wide = np.full((40, 80, 3), 90, np.uint8)
    for fit in (pb.FIT_CROP, pb.FIT_PAD, pb.FIT_STRETCH):
        (reply,) = inverted(stub, file(wide, "JPEG"), fit=fit, max_evaluations=2)
        assert reply.images.count == 1


def test_a_version_of_an_earlier_release_is_refused(stub: Stub) -> None:
    request = pb.InvertRequest(model=pb.ModelSelector(name="puppet"), pictures=[b""])
    code, message, _ = refusal(stub, request)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message == (
        "puppet version 1 was exported without what finds latents of pictures; export it again: progan export "
        "STORE/MODEL/VERSION"
    )
    models = stub.ListModels(pb.ListModelsRequest(), timeout=PATIENCE_S).models
    assert {model.name: model.versions[0].can_invert for model in models} == {
        "tiny": True,
        "hats": True,
        "puppet": False,
    }


SMALL = file(np.zeros((8, 8, 3), np.uint8))
HUGE = file(np.zeros((1, 4097), np.uint8))


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        (pb.InvertRequest(), "pictures", "has 0; must have 1 to 8"),
        (pb.InvertRequest(pictures=[SMALL] * 9), "pictures", "has 9; must have 1 to 8"),
        (pb.InvertRequest(pictures=[SMALL, b"GIF89a"]), "pictures[1]", "is GIF; must be a PNG, JPEG or WebP file"),
        (pb.InvertRequest(pictures=[SMALL[:-30]]), "pictures[0]", "is a damaged PNG"),
        (pb.InvertRequest(pictures=[HUGE]), "pictures[0]", "has 4097 x 1 pixels; must have at most 4096 x 4096"),
        (pb.InvertRequest(pictures=[SMALL], fit=9), "fit", "is 9, which is no Fit"),
        (pb.InvertRequest(pictures=[SMALL], max_evaluations=2001), "max_evaluations", "is 2001; must be at most 2000"),
        (pb.InvertRequest(pictures=[SMALL], enough_db=0.5), "enough_db", "is 0.5; must be 1 to 100"),
        (pb.InvertRequest(pictures=[SMALL], enough_db=float("nan")), "enough_db", "is nan; must be 1 to 100"),
        (pb.InvertRequest(pictures=[SMALL], priority=9), "priority", "is 9, which is no Priority"),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_field(
    stub: Stub, request_: pb.InvertRequest, field: str, says: str
) -> None:
    assert refusal(stub, request_) == (grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {says}", field)


def test_a_call_that_is_cancelled_leaves_nothing_behind(stub: Stub, server: Server) -> None:
    pictures = [file(image) for image in images(stub, 50, 8)]
    call = stub.Invert(
        pb.InvertRequest(pictures=pictures, report_every=1, enough_db=100, max_evaluations=2000), timeout=PATIENCE_S
    )
    next(call)
    call.cancel()
    assert images(stub, 0).shape == (1, 8, 8, 3)
    counted = server._metrics.inversions.labels("cancelled")
    for _ in range(100):
        if counted._value.get() == 8:
            break
        threading.Event().wait(0.1)
    assert counted._value.get() == 8


def test_the_log_says_how_much_was_done_and_holds_nothing_of_a_picture(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        inverted(stub, file(images(stub, 5)[0]), max_evaluations=4)
    lines = [record.getMessage() for record in caplog.records if "Invert" in record.getMessage()]
    assert any("Invert OK: 1 RAW image of tiny version 1" in line for line in lines)


def test_it_works_over_http_too(stub: Stub, server: Server) -> None:
    picture = base64.b64encode(file(images(stub, 5)[0])).decode()
    message = json.dumps({"pictures": [picture], "maxEvaluations": 3}).encode()
    url = f"http://127.0.0.1:{server.http_port}/progan.v1.ImageGeneratorService/Invert"
    headers = {"Content-Type": "application/connect+json"}
    request = urllib.request.Request(url, struct.pack(">BI", 0, len(message)) + message, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        _, size = struct.unpack(">BI", answer.read(5))
        reply = json.loads(answer.read(size))
    assert (reply["evaluations"], reply["end"]) == (3, "INVERSION_END_BUDGET")
