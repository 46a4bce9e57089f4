"""What is refused, and how: the code, the reason, the field, the time to come back."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.rpc import error_details_pb2
from progan_v1 import (
    FAIL,
    PATIENCE_S,
    PNG,
    SERVICE,
    Guest,
    begin_waiting,
    configured,
    greys,
    guest,
    matrix,
    refusal,
    seed_range,
    shaded,
    texts,
    vectors,
)

from progan_protos.v1 import image_generator_pb2 as pb
from progan_service.serving.config import BatchingConfig

ONE = vectors((0, 0, 0, 1))
NAN = float("nan")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GenerateRequest(), "latents"),
        (pb.GenerateRequest(latents=seed_range(0, 0)), "latents.seed_range.count"),
        (pb.GenerateRequest(latents=vectors((1, 2, 3))), "latents.vectors.columns"),
        (pb.GenerateRequest(latents=vectors((1, 2, NAN, 4))), "latents.vectors.values"),
        (pb.GenerateRequest(latents=vectors((0, 0, 0, 0))), "latents.vectors"),
        (pb.GenerateRequest(latents=seed_range(0, 13)), "latents"),
        (pb.GenerateRequest(latents=ONE, format=pb.OutputFormat(encoding=77)), "format.encoding"),
        (pb.GenerateRequest(latents=ONE, format=pb.OutputFormat(quality=5)), "format.quality"),
        (pb.GenerateRequest(latents=ONE, model=pb.ModelSelector(name="labelled")), "labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_breaks_a_rule_is_an_invalid_argument_and_names_the_field(
    puppets: Guest, request_: pb.GenerateRequest, field: str
) -> None:
    for call in (puppets.stub.Generate, lambda request, timeout: list(streamed(puppets, request, timeout))):
        if request_.latents.seed_range.count == 13 and call != puppets.stub.Generate:
            continue  # a stream may ask for any number
        refused = refusal(lambda call=call: call(request_, timeout=PATIENCE_S))
        assert (refused.code, refused.reason, refused.field) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT", field)


def streamed(host: Guest, request: pb.GenerateRequest, timeout: float) -> Iterator[pb.StreamGenerateResponse]:
    """The same request to StreamGenerate."""
    same = pb.StreamGenerateRequest.FromString(request.SerializeToString())
    return host.stub.StreamGenerate(same, timeout=timeout)


@pytest.mark.parametrize("method", ["Generate", "StreamGenerate", "Interpolate", "ListModels", "GetModel"])
def test_bytes_that_are_no_message_are_an_invalid_argument(puppets: Guest, method: str) -> None:
    streaming = method in ("StreamGenerate", "Interpolate")
    make = puppets.channel.unary_stream if streaming else puppets.channel.unary_unary
    call = make(f"/{SERVICE}/{method}")
    refused = refusal(lambda: list(call(b"\xff\xff\xff", timeout=PATIENCE_S)))
    assert (refused.code, refused.field) == ("INVALID_ARGUMENT", "request")


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        (pb.ModelSelector(name="cats"), "no model 'cats'; this server has: labelled, puppet, wide"),
        (pb.ModelSelector(name="puppet", version=9), "model 'puppet' has no version 9; it has: 3, 2, 1"),
    ],
)
def test_an_unknown_model_or_version_is_not_found(puppets: Guest, selector: pb.ModelSelector, says: str) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=selector))
    assert (refused.code, refused.reason, refused.text) == ("NOT_FOUND", "MODEL_NOT_FOUND", says)


def test_even_a_name_of_forty_kilobytes_is_not_found_and_cut_short(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=pb.ModelSelector(name="\N{CAT}" * 10_000)))
    assert refused.code == "NOT_FOUND"
    assert len(refused.text) == 300


@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_is_not_loaded_is_a_failed_precondition(puppets: Guest, version: int) -> None:
    selector = pb.ModelSelector(version=version)
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), model=selector))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")


def test_labels_for_a_model_without_any_are_a_failed_precondition(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.generate((0, 0, 0, 1), labels=matrix((1, 0))))
    assert (refused.code, refused.text) == ("FAILED_PRECONDITION", "labels were given, and this model has none")


def test_too_many_images_for_one_reply_are_told_of_streams(puppets: Guest) -> None:
    refused = refusal(lambda: puppets.stub.Generate(pb.GenerateRequest(latents=seed_range(0, 13)), timeout=PATIENCE_S))
    assert refused.text == "latents: asks for 13 images; one call gives at most 12, use StreamGenerate"


def test_too_many_bytes_for_one_reply_are_told_of_streams(puppet_store: Path) -> None:
    config = configured(puppet_store, max_images=100, max_reply_bytes=4 * 2**20, batching=BatchingConfig(1, (1,), 100))
    with guest(config) as host:
        wide = pb.ModelSelector(name="wide")
        assert host.generate(*[(0, 0, 0, 1)] * 20, model=wide).images.count == 20  # of 196,608 bytes each
        refused = refusal(lambda: host.generate(*[(0, 0, 0, 1)] * 21, model=wide))
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.text == (
        "latents: asks for 21 images, up to 4194640 bytes; a reply holds at most 4194304, use StreamGenerate"
    )


def test_long_licences_count_as_bytes_of_a_reply(tmp_path: Path, publish_puppet: Callable[..., int]) -> None:
    licence = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9FFF, 20_000)))  # 40 KiB at its smallest
    publish_puppet(tmp_path, "puppet", provenance={"license": licence})
    with guest(
        configured(tmp_path, max_reply_bytes=4 * 2**20, batching=BatchingConfig(16, (16,), 200), max_images=200)
    ) as host:
        request = pb.GenerateRequest(latents=seed_range(0, 120), format=PNG)
        refused = refusal(lambda: host.stub.Generate(request, timeout=PATIENCE_S))
        streamed = pb.StreamGenerateRequest(latents=request.latents, format=PNG)
        replies = list(host.stub.StreamGenerate(streamed, timeout=PATIENCE_S))
    assert refused.code == "INVALID_ARGUMENT"
    assert "a reply holds at most 4194304, use StreamGenerate" in refused.text
    assert [found["License"] for reply in replies for found in texts(reply.images.files)] == [licence] * 120
    assert all(reply.ByteSize() < 4 * 2**20 for reply in replies)


def test_more_images_than_ever_fit_the_queue_are_an_invalid_argument_not_a_retry(puppet_store: Path) -> None:
    with guest(configured(puppet_store, max_images=100)) as host:  # the queue holds 16
        request = pb.GenerateRequest(latents=seed_range(0, 17))
        refused = refusal(lambda: host.stub.Generate(request, timeout=PATIENCE_S))
    assert refused.code == "INVALID_ARGUMENT"
    assert "one call gives at most 16, use StreamGenerate" in refused.text


def test_a_fault_inside_is_internal_and_tells_only_the_id_of_its_log_entry(
    puppets: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    refused = refusal(lambda: puppets.generate(FAIL))
    assert (refused.code, refused.reason) == ("INTERNAL", "INTERNAL")
    found = re.fullmatch("internal error; the server's log has it under id ([0-9a-f]{12})", refused.text)
    assert found
    assert f"Generate failed, id {found[1]}" in caplog.text
    assert "secret of the graph" in caplog.text


def test_after_a_fault_inside_the_next_call_is_answered(puppets: Guest) -> None:
    assert refusal(lambda: puppets.generate(FAIL)).code == "INTERNAL"
    assert greys(puppets.generate((5, 0, 0, 0)).images) == [150]


def test_a_full_queue_refuses_with_the_time_to_come_back(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    refused = refusal(lambda: puppets.generate(*[(2, 0, 0, 1)] * 5))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert refused.text == "no room for 5 images: 12 wait already, max_queued_rows is 16"
    retry_ms = refused.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
    assert retry_ms > 0
    assert abs(int(refused.trailers["grpc-retry-pushback-ms"]) - retry_ms) <= 1
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 12]


def test_work_whose_deadline_passes_in_the_queue_is_never_done(puppets: Guest, hold: Path) -> None:
    images = puppets.metric('progan_images_total{model="puppet",version="2"}')
    calls = begin_waiting(puppets, 1)
    refused = refusal(lambda: puppets.stub.Generate(pb.GenerateRequest(latents=shaded(1, 2, 3)), timeout=0.2))
    assert refused.code in {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}  # at once, where a batch took so long before
    puppets.queued(1)
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 1]
    assert puppets.metric('progan_images_total{model="puppet",version="2"}') == images + 2
