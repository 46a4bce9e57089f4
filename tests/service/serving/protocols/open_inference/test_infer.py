"""Images asked for by the Open Inference Protocol are those of progan.v1, and what breaks a rule is named."""

import io
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from open_inference import Caller, ModelInferRequest, array_of, inference
from PIL import Image
from web import Web

from progan_protos.v1 import image_generator_pb2 as pb
from progan_protos.v1 import image_generator_pb2_grpc as pb_grpc
from progan_service.serving.config import ServerConfig
from progan_service.serving.errors import InvalidArgument
from progan_service.serving.protocols.open_inference.tensors import read_inputs
from progan_service.serving.server import Server

PATIENCE_S = 60
LATENTS = np.random.default_rng(5).standard_normal((3, 16)).astype(np.float32)
SEEDS = np.array([0, 7, 2**64 - 1], np.uint64)


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


class Same:
    """Asks progan.v1 for the same."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self._stub = pb_grpc.ImageGeneratorServiceStub(self.channel)

    def pixels(self, latents: pb.Latents) -> Any:
        images = self._stub.Generate(pb.GenerateRequest(latents=latents), timeout=PATIENCE_S).images
        return np.frombuffer(images.pixels, np.uint8).reshape(images.count, 8, 8, 3)

    def of_latents(self, latents: Any) -> Any:
        values = latents.astype("<f4")
        return self.pixels(pb.Latents(vectors=pb.FloatMatrix(rows=len(values), columns=16, values=values.tobytes())))

    def of_seeds(self, *seeds: int) -> Any:
        return self.pixels(pb.Latents(seeds=pb.SeedList(seeds=seeds)))

    def walk(self, *seeds: int, frames_between: int) -> list[Any]:
        keys = pb.Latents(seeds=pb.SeedList(seeds=seeds))
        request = pb.InterpolateRequest(key_frames=keys, frames_between=frames_between)
        return [
            frame
            for part in self._stub.Interpolate(request, timeout=PATIENCE_S)
            for frame in np.frombuffer(part.images.pixels, np.uint8).reshape(part.images.count, 8, 8, 3)
        ]


@pytest.fixture
def same(server_target: str) -> Iterator[Same]:
    same = Same(server_target)
    yield same
    same.channel.close()


# --- what draws an image ---


def test_latents_give_the_images_of_progan_v1(tiny: Caller, same: Same) -> None:
    reply = tiny.send("ModelInfer", inference("tiny", latents=LATENTS))
    assert (reply.model_name, reply.model_version) == ("tiny", "1")
    assert [(each.name, each.datatype, list(each.shape)) for each in reply.outputs] == [
        ("images", "UINT8", [3, 8, 8, 3])
    ]
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_latents(LATENTS))


@pytest.mark.parametrize("kind", ["<f2", "<f8"])
def test_other_floats_are_converted(tiny: Caller, same: Same, kind: str) -> None:
    reply = tiny.send("ModelInfer", inference(latents=LATENTS.astype(kind)))
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_latents(LATENTS.astype(kind)))


def test_bfloat16_is_the_upper_half_of_a_float(tiny: Caller, same: Same) -> None:
    halves = LATENTS.view("<u4") >> 16
    request = inference(latents=LATENTS)
    request.inputs[0].datatype = "BF16"
    request.raw_input_contents[0] = halves.astype("<u2").tobytes()
    expected = same.of_latents((halves << 16).astype("<u4").view("<f4"))
    np.testing.assert_array_equal(array_of(tiny.send("ModelInfer", request), "images"), expected)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_request_may_be_compressed(tiny: Caller, same: Same, compression: grpc.Compression) -> None:
    reply = tiny.send("ModelInfer", inference(latents=LATENTS), compression=compression)
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_latents(LATENTS))


def test_typed_contents_are_as_good_as_raw_ones(tiny: Caller, same: Same) -> None:
    request = ModelInferRequest(model_name="tiny")
    tensor = request.inputs.add(name="latents", datatype="FP32", shape=[3, 16])
    tensor.contents.fp32_contents.extend(LATENTS.ravel().tolist())
    np.testing.assert_array_equal(array_of(tiny.send("ModelInfer", request), "images"), same.of_latents(LATENTS))
    request = ModelInferRequest(model_name="tiny")
    request.inputs.add(name="seeds", datatype="UINT64", shape=[2]).contents.uint64_contents.extend([5, 2**64 - 1])
    expected = same.of_seeds(5, 2**64 - 1)
    np.testing.assert_array_equal(array_of(tiny.send("ModelInfer", request), "images"), expected)


@pytest.mark.parametrize("shape", [(16,), (1, 16, 1, 1)])
def test_a_single_latent_may_come_in_other_shapes(tiny: Caller, same: Same, shape: tuple[int, ...]) -> None:
    reply = tiny.send("ModelInfer", inference(latents=LATENTS[0].reshape(shape)))
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_latents(LATENTS[:1]))


@pytest.mark.parametrize("seeds", [SEEDS, SEEDS[:, None], np.array([3, 4], np.int64), np.array([3, 4], np.uint32)])
def test_seeds_give_the_images_of_progan_v1(tiny: Caller, same: Same, seeds: Any) -> None:
    reply = tiny.send("ModelInfer", inference(seeds=seeds))
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_seeds(*map(int, seeds.ravel())))


@pytest.mark.parametrize("seed", [7, "7", 7.0, "18446744073709551615"])
def test_a_seed_may_be_a_parameter(tiny: Caller, same: Same, seed: Any) -> None:
    one = tiny.send("ModelInfer", inference(parameters={"seed": seed}))
    np.testing.assert_array_equal(array_of(one, "images"), same.of_seeds(int(seed)))
    four = tiny.send("ModelInfer", inference(parameters={"seed": seed, "count": 4}))
    expected = same.of_seeds(*((int(seed) + offset) % 2**64 for offset in range(4)))
    np.testing.assert_array_equal(array_of(four, "images"), expected)


def test_seeds_win_over_latents_which_a_load_generator_fills_at_random(tiny: Caller, same: Same) -> None:
    reply = tiny.send("ModelInfer", inference(latents=np.full((3, 16), np.nan, np.float32), seeds=SEEDS))
    np.testing.assert_array_equal(array_of(reply, "images"), same.of_seeds(0, 7, 2**64 - 1))


def test_labels_are_an_input_or_a_name_or_a_number(caller: Caller) -> None:
    latents = np.zeros((2, 4), np.float32) + 1
    rows = np.array([[1, 0], [0, 1]], np.float32)
    drawn = array_of(caller.send("ModelInfer", inference("labelled", latents=latents, labels=rows)), "images")
    assert drawn[:, 0, 0, 0].tolist() == [0, 100]
    for label in ("label 1", "1", 1):
        request = inference("labelled", latents=latents, parameters={"label": label})
        assert array_of(caller.send("ModelInfer", request), "images")[:, 0, 0, 0].tolist() == [100, 100]


def test_attributes_are_named_one_by_one(publish_puppet: Any, run_server: Any, tmp_path: Path) -> None:
    publish_puppet(tmp_path, "faces", labels=2, label_kind="attributes")
    with run_server(ServerConfig(tmp_path, port=0, http_port=0, lame_duck_s=0)) as server:
        caller = Caller(f"127.0.0.1:{server.port}")

        def drawn(label: Any) -> list[int]:
            request = inference("faces", seeds=SEEDS[:1], parameters={"label": label})
            return array_of(caller.send("ModelInfer", request), "images")[:, 0, 0, 0].tolist()  # type: ignore[no-any-return]

        assert [drawn(label) for label in ("label 0", "label 1", "label 0,label 1", "label 1, label 0")] == [
            *([0], [100], [100], [100])
        ]
        assert (drawn(0), drawn("1")) == ([0], [100])
        twice = inference("faces", seeds=SEEDS, parameters={"label": "label 1,label 1"})
        assert caller.refusal("ModelInfer", twice) == "INVALID_ARGUMENT parameters.label: 'label 1' is given twice"
        caller.channel.close()


# --- what comes back ---


def test_files_carry_their_seed_and_come_beside_pixels_and_latents(tiny: Caller) -> None:
    reply = tiny.send("ModelInfer", inference(outputs=("latents", "files", "images"), seeds=SEEDS))
    assert [each.name for each in reply.outputs] == ["latents", "files", "images"]
    assert array_of(reply, "latents").shape == (3, 16)
    for file, pixels, seed in zip(array_of(reply, "files"), array_of(reply, "images"), SEEDS, strict=True):
        with Image.open(io.BytesIO(file)) as image:
            assert image.info["Seed"] == str(seed)
            np.testing.assert_array_equal(np.asarray(image), pixels)


def test_an_encoding_asks_for_files(tiny: Caller) -> None:
    files = {}
    for quality in (10, 90):
        request = inference(seeds=SEEDS, parameters={"encoding": "jpeg", "quality": quality})
        reply = tiny.send("ModelInfer", request)
        assert [(each.name, each.datatype, list(each.shape)) for each in reply.outputs] == [("files", "BYTES", [3])]
        files[quality] = array_of(reply, "files")
    assert all(file.startswith(b"\xff\xd8") for file in files[10])
    assert sum(map(len, files[10])) < sum(map(len, files[90]))


def test_a_request_gets_its_id_back_and_the_log_has_it(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="progan_service.requests")
    seeds = np.array([1], np.uint64)
    assert (
        caller.send("ModelInfer", inference("puppet", seeds=seeds, request_id="844424930132059")).id
        == "844424930132059"
    )
    caller.send("ModelInfer", inference("puppet", seeds=seeds, request_id="a"), metadata=(("x-request-id", "b"),))
    logged = [fields for record in caplog.records if "code" in (fields := vars(record)["fields"])]
    assert [(line["method"], line["request_id"]) for line in logged] == [
        ("ModelInfer", "844424930132059"),
        ("ModelInfer", "b"),
    ]


def test_a_version_is_named_by_its_number_or_a_label(caller: Caller) -> None:
    seeds = np.array([1], np.uint64)
    assert caller.send("ModelInfer", inference("puppet", "2", seeds=seeds)).model_version == "2"
    assert caller.send("ModelInfer", inference(seeds=seeds)).model_name == "puppet"
    assert caller.refusal("ModelInfer", inference("puppet", "1", seeds=seeds)).startswith("FAILED_PRECONDITION")
    for version, parameters in (("nightly", {}), ("", {"version_label": "nightly"})):
        refusal = caller.refusal("ModelInfer", inference("puppet", version, parameters=parameters, seeds=seeds))
        assert refusal == "NOT_FOUND model 'puppet' has no version label 'nightly'; it has: none"


@pytest.mark.parametrize(
    ("number", "priority"), [(0, "interactive"), (1, "interactive"), (2, "bulk"), (2**64 - 1, "bulk")]
)
def test_a_priority_above_1_is_for_work_that_can_wait(
    caller: Caller, puppets: Server, hold: Path, number: int, priority: str
) -> None:
    web = Web(puppets.http_port)

    def metric(sample: str) -> float:
        lines = web.get("/metrics").body.decode().splitlines()
        return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample + " "))

    def ask(shade: float, wait: float, **parameters: int) -> Any:
        latents = np.array([[shade, 0, wait, 1]], np.float32)
        return caller.send("ModelInfer", inference("puppet", latents=latents, parameters=parameters))

    batches = metric("progan_batch_rows_count")
    with ThreadPoolExecutor(2) as calls:
        running = calls.submit(ask, 0, 99)
        until(lambda: metric("progan_batch_rows_count") == batches + 1)
        waiting = calls.submit(ask, 1, 0, priority=number)
        until(lambda: metric(f'progan_queue_rows{{model="puppet",priority="{priority}"}}') == 1)
        hold.unlink()
        assert array_of(waiting.result(), "images").max() == 110
        running.result()


def test_what_clients_add_of_their_own_is_ignored(tiny: Caller) -> None:
    ignored = {"sequence_id": 4, "sequence_start": True, "headers": "x", "triton_anything": 1}
    request = inference(parameters={**ignored, "priority": 1}, seeds=SEEDS)
    request.inputs[0].parameters["binary_data_size"].int64_param = 24
    assert array_of(tiny.send("ModelInfer", request), "images").shape == (3, 8, 8, 3)


# --- what is refused ---


def raw(shape: list[int], content: bytes, datatype: str = "FP32") -> Any:
    request = ModelInferRequest(raw_input_contents=[content])
    request.inputs.add(name="latents", datatype=datatype, shape=shape)
    return request


def twice(request: Any) -> Any:
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    return request


def with_contents(request: Any, **contents: Any) -> Any:
    for field, values in contents.items():
        getattr(request.inputs[0].contents, field).extend(values)
    return request


def in_shared_memory(request: Any) -> Any:
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    return request


def classified(request: Any) -> Any:
    request.outputs.add(name="images").parameters["classification"].int64_param = 3
    return request


def without_raw(request: Any) -> Any:
    request.ClearField("raw_input_contents")
    return request


ROW = np.ones((1, 4), np.float32)
REFUSALS = {
    "nothing": (inference(), "inputs: has neither latents nor seeds, and there is no parameter seed; give one"),
    "unknown input": (without_raw(inference(seeds=SEEDS)), "seeds: has 0 values in uint64_contents; shape [3] takes 3"),
    "not a number": (inference(latents=ROW * np.nan), "latents: row 0, column 0 is nan; must be finite"),
    "too large a double": (
        inference(latents=np.full((1, 4), 1e300)),
        "latents: row 0, column 0 is inf; must be finite",
    ),
    "no direction": (inference(latents=0 * ROW), "latents: row 0 is all zero; a latent needs a direction"),
    "other size": (
        inference(latents=np.ones((1, 5), np.float32)),
        "latents: is 5; must be 4, the latent_size of the model",
    ),
    "too few bytes": (raw([1, 4], bytes(12)), "latents: has 12 bytes; FP32 of shape [1, 4] takes 16"),
    "too many bytes": (raw([1, 4], bytes(20)), "latents: has 20 bytes; FP32 of shape [1, 4] takes 16"),
    "a negative dimension": (raw([-1, 4], bytes(16)), "latents: has shape [-1, 4]; every dimension must be at least 1"),
    "no rows": (raw([0, 4], b""), "latents: has shape [0, 4]; every dimension must be at least 1"),
    "a huge shape": (
        raw([2**40, 4], bytes(16)),
        f"latents: has 16 bytes; FP32 of shape [{2**40}, 4] takes {2**44}",
    ),
    "a cube": (raw([1, 2, 2], bytes(16)), "latents: has shape [1, 2, 2]; must be [N, columns]"),
    "integers": (raw([1, 4], bytes(16), "INT32"), "latents: has datatype 'INT32'; must be FP32, FP16, BF16, FP64"),
    "texts": (raw([1, 4], bytes(16), "BYTES"), "latents: has datatype 'BYTES'; must be FP32, FP16, BF16, FP64"),
    "twice": (twice(inference(latents=ROW)), "latents: is given twice"),
    "both kinds of contents": (
        with_contents(inference(latents=ROW), fp32_contents=[1, 1, 1, 1]),
        "latents: has both raw_input_contents and contents; give one of them",
    ),
    "contents of another type": (
        without_raw(with_contents(inference(latents=ROW), fp64_contents=[1, 1, 1, 1])),
        "latents: has fp64_contents; values of datatype FP32 come in fp32_contents",
    ),
    "negative seeds": (inference(seeds=np.array([3, -1])), "seeds: holds -1; a seed is 0 to 2^64 - 1"),
    "other count of seeds": (
        inference(latents=ROW, seeds=SEEDS),
        "seeds: has 3 rows, and latents 1; both must have the same",
    ),
    "unknown output": (
        inference(seeds=SEEDS, outputs=("pixels",)),
        "outputs: 'pixels' is no output; the outputs are images, files, latents",
    ),
    "output twice": (inference(seeds=SEEDS, outputs=("images", "images")), "outputs: images is asked for twice"),
    "unknown parameter": (
        inference(seeds=SEEDS, parameters={"colour": "red"}),
        "parameters.colour: is no parameter; known are encoding, quality, label, version_label, priority, timeout, "
        "seed, count, frames_between, path, pace, loop",
    ),
    "unknown encoding": (
        inference(seeds=SEEDS, parameters={"encoding": "gif"}),
        "parameters.encoding: is 'gif'; must be raw, png, jpeg, webp",
    ),
    "raw files": (
        inference(seeds=SEEDS, outputs=("files",), parameters={"encoding": "raw"}),
        "parameters.encoding: is 'raw'; files are png, jpeg or webp",
    ),
    "quality of PNG": (
        inference(seeds=SEEDS, parameters={"encoding": "png", "quality": 5}),
        "parameters.quality: is 5, but PNG loses nothing; leave it out",
    ),
    "half a seed": (
        inference(parameters={"seed": 0.5}),
        "parameters.seed: is 0.5; must be an integer from 0 to 18446744073709551615",
    ),
    "no image": (
        inference(parameters={"seed": 1, "count": 0}),
        "parameters.count: is empty; at least one image must be asked for",
    ),
    "count beside seeds": (
        inference(seeds=SEEDS, parameters={"count": 4}),
        "parameters.count: is 4; is for requests without latents and seeds",
    ),
    "another path": (
        inference(seeds=SEEDS, parameters={"path": "bezier"}),
        "parameters.path: is 'bezier'; must be linear, spherical or smooth",
    ),
    "a walk from one place": (
        inference(seeds=SEEDS[:1], parameters={"frames_between": 3}),
        "latents: holds 1 latents; 2 to 256 are allowed",
    ),
    "too many": (
        inference(parameters={"seed": 1, "count": 257}),
        "inputs: asks for 257 images; one call gives at most 256; send several requests",
    ),
    "label and labels": (
        inference("labelled", seeds=SEEDS, labels=np.ones((1, 2), np.float32), parameters={"label": "label 1"}),
        "parameters.label: is 'label 1'; and there is an input labels: give one of them",
    ),
    "unknown label": (
        inference("labelled", seeds=SEEDS, parameters={"label": "pear"}),
        "parameters.label: 'pear' must be one of label 0, label 1",
    ),
    "two classes": (
        inference("labelled", seeds=SEEDS, parameters={"label": "label 0,label 1"}),
        "parameters.label: has 2 names; an image of this model has one class",
    ),
    "unknown column": (
        inference("labelled", seeds=SEEDS, parameters={"label": 2}),
        "parameters.label: is 2; must be an integer from 0 to 1",
    ),
    "other labels": (
        inference("labelled", seeds=SEEDS, labels=np.ones((1, 3), np.float32)),
        "labels: is 3; must be 2, the label_count of the model",
    ),
    "surplus contents": (ModelInferRequest(raw_input_contents=[b""]), "raw_input_contents: has 1 entries for 0 inputs"),
}


@pytest.mark.parametrize("wrong", REFUSALS)
def test_what_breaks_a_rule_is_named(caller: Caller, wrong: str) -> None:
    request, sentence = REFUSALS[wrong]
    assert caller.refusal("ModelInfer", request) == f"INVALID_ARGUMENT {sentence}"


@pytest.mark.parametrize(
    "request_", [raw([2**40, 4], bytes(16)), raw([2**20, 2**20, 2**20], bytes(16)), raw([2**40, 4], b"", "BYTES")]
)
def test_sizes_are_checked_before_memory_is_taken(request_: Any) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidArgument, match="latents"):
        read_inputs(request_.inputs, request_.raw_input_contents)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 100_000


def test_an_input_that_no_model_has_is_named(caller: Caller) -> None:
    request = ModelInferRequest(raw_input_contents=[b"x"])
    request.inputs.add(name="noise", datatype="UINT8", shape=[1])
    assert caller.refusal("ModelInfer", request) == (
        "INVALID_ARGUMENT inputs: 'noise' is no input; the inputs are latents, seeds, labels"
    )


def test_labels_for_a_model_without_any_are_refused(caller: Caller) -> None:
    rows = inference("puppet", seeds=SEEDS, labels=np.ones((1, 2), np.float32))
    assert caller.refusal("ModelInfer", rows) == "FAILED_PRECONDITION labels were given, and this model has none"
    for label in ("1", 1, "cat"):
        request = inference("puppet", seeds=SEEDS, parameters={"label": label})
        sentence = "FAILED_PRECONDITION label names were given, and this model has no labels"
        assert caller.refusal("ModelInfer", request) == sentence


def test_shared_memory_and_classification_are_not_there(caller: Caller) -> None:
    assert caller.refusal("ModelInfer", in_shared_memory(inference(seeds=SEEDS))) == (
        "UNIMPLEMENTED seeds: shared memory is not supported; send the values in the request"
    )
    assert caller.refusal("ModelInfer", classified(inference(seeds=SEEDS))) == (
        "UNIMPLEMENTED images: classification is not supported; the reply holds the whole tensor"
    )


def test_a_timeout_in_the_request_is_a_deadline(caller: Caller) -> None:
    late = inference(seeds=SEEDS, parameters={"timeout": 1})  # a microsecond
    assert caller.refusal("ModelInfer", late).startswith("DEADLINE_EXCEEDED")


# --- walks ---


def test_a_walk_comes_whole_in_one_reply(tiny: Caller, same: Same) -> None:
    request = inference(seeds=np.array([1, 2]), parameters={"frames_between": 5})
    np.testing.assert_array_equal(
        array_of(tiny.send("ModelInfer", request), "images"), same.walk(1, 2, frames_between=5)
    )


# --- what was done ---


def test_statistics_count_images_and_batches(caller: Caller) -> None:
    def seen() -> Any:
        return caller.ask("ModelStatistics", name="wide").model_stats[0]

    before = seen()
    for _ in range(3):
        caller.send("ModelInfer", inference("wide", seeds=np.array([1, 2])))
    caller.refusal("ModelInfer", inference("wide", latents=0 * ROW))
    after = seen()
    assert (after.name, after.version) == ("wide", "1")
    assert after.inference_count - before.inference_count == 6
    assert after.execution_count - before.execution_count == 3
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert {each.batch_size for each in after.batch_stats} == {2}
    assert after.last_inference > 1_600_000_000_000
    everything = caller.ask("ModelStatistics").model_stats
    assert [(each.name, each.version) for each in everything] == [("labelled", "1"), ("puppet", "2"), ("wide", "1")]
