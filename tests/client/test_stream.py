"""When a stream that broke goes on, where, and with which error it ends if it does not. No network."""

import logging

import grpc
import pytest

from progan_client import (
    ClientClosedError,
    DeadlineExceededError,
    InternalError,
    NotFoundError,
    ProganError,
    ReplyError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from progan_client.requests import frame_count, interpolate_request
from progan_client.stream import MAX_FAILURES, Stream
from progan_protos.v1 import image_generator_pb2 as pb

COUNT = 100
LONG_S = 3600.0
MODEL = pb.ServedModel(name="fruits", version=2, digest="sha256:2")

LOST = UnavailableError("lost the connection", code=grpc.StatusCode.UNAVAILABLE)
DRAINING = UnavailableError("the server is shutting down", code=grpc.StatusCode.UNAVAILABLE, reason="UNAVAILABLE")
BUSY = ResourceExhaustedError(
    "the queue is full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="QUEUE_FULL", retry_after_s=7.5
)
TOO_LARGE = ResourceExhaustedError("larger than max (5 vs. 4)", code=grpc.StatusCode.RESOURCE_EXHAUSTED)
UNKNOWN_VERSION = NotFoundError("no version 2", code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND")
FAULT = InternalError("internal error", code=grpc.StatusCode.INTERNAL, reason="INTERNAL")
STALLED = ServiceError("the caller took nothing", code=grpc.StatusCode.CANCELLED, reason="READER_STALLED")
RESET = InternalError("RST_STREAM with error code 2", code=grpc.StatusCode.INTERNAL)
LATE = DeadlineExceededError("too late", code=grpc.StatusCode.DEADLINE_EXCEEDED)


def part(first: int, count: int, model: pb.ServedModel = MODEL) -> pb.StreamGenerateResponse:
    return pb.StreamGenerateResponse(first_index=first, images=pb.Images(count=count), model=model)


def stream(arrived: int = 0, **request: pb.ModelSelector) -> Stream:
    """A stream of 100 images, so many of which have arrived."""
    stream = Stream(pb.StreamGenerateRequest(**request), COUNT)
    if arrived:
        stream.arrived(part(0, arrived))
    return stream


def ending(stream: Stream, error: ProganError, remaining_s: float = LONG_S) -> ProganError:
    with pytest.raises(ProganError) as ended:
        stream.pause_s(error, remaining_s)
    return ended.value


@pytest.mark.parametrize("error", [LOST, DRAINING, BUSY, STALLED, RESET])
def test_a_stream_goes_on_after_the_last_image_with_the_version_that_made_it(error: ServiceError) -> None:
    broken = stream(40, model=pb.ModelSelector(version_label="canary"))
    broken.pause_s(error, LONG_S)
    assert broken.request.first_index == 40
    assert broken.request.model == pb.ModelSelector(name="fruits", version=2)


@pytest.mark.parametrize("error", [UNKNOWN_VERSION, FAULT, TOO_LARGE, LATE, ReplyError("wrong size")])
def test_other_errors_end_it_at_once(error: ProganError) -> None:
    assert ending(stream(40), error) is error


@pytest.mark.parametrize("error", [LOST, BUSY])
def test_without_an_image_it_does_not_go_on_for_grpc_has_tried_four_times(error: ServiceError) -> None:
    assert ending(stream(), error) is error


def test_a_connection_that_breaks_after_the_last_image_is_no_error() -> None:
    done = stream(COUNT)
    assert done.is_complete
    assert done.pause_s(LOST, LONG_S) == 0.0


def test_pauses_grow_and_have_a_limit() -> None:
    broken = stream(40)
    pauses = [broken.pause_s(LOST, LONG_S) for _ in range(MAX_FAILURES - 1)]
    for pause, longest in zip(pauses, [0.25, 0.5, 1, 2, 4, 8, 10, 10, 10], strict=True):
        assert longest / 2 <= pause <= longest
    assert ending(broken, LOST) is LOST


def test_an_image_renews_the_patience() -> None:
    broken = stream(40)
    for index in range(40, 90):
        assert broken.pause_s(LOST, LONG_S) <= 0.25
        broken.arrived(part(index, 1))


def test_a_busy_service_is_asked_when_it_said() -> None:
    assert stream(40).pause_s(BUSY, LONG_S) == 7.5
    assert ending(stream(40), BUSY, remaining_s=7.4) is BUSY


def test_it_ends_with_the_error_that_broke_it() -> None:
    broken = stream(40)
    first = UnavailableError("the server is shutting down", code=grpc.StatusCode.UNAVAILABLE)
    broken.pause_s(first, LONG_S)
    broken.pause_s(LOST, LONG_S)
    assert ending(broken, UNKNOWN_VERSION) is first
    assert first.__notes__ == ["The stream could not go on: no version 2"]


@pytest.mark.parametrize("error", [LATE, ClientClosedError("the client of there:1 is closed")])
def test_the_deadline_and_a_client_that_was_closed_are_errors_of_their_own(error: ProganError) -> None:
    broken = stream(40)
    broken.pause_s(LOST, LONG_S)
    assert ending(broken, error) is error


@pytest.mark.parametrize("other", [{"digest": "sha256:3"}, {"version": 3}, {"name": "faces"}])
def test_images_of_another_model_are_no_continuation(other: dict[str, str]) -> None:
    model = pb.ServedModel()
    model.MergeFrom(MODEL)
    model.MergeFrom(pb.ServedModel(**other))
    broken = stream(40)
    first = UnavailableError("gone", code=grpc.StatusCode.UNAVAILABLE)
    broken.pause_s(first, LONG_S)
    with pytest.raises(ReplyError, match="the next server has other files of") as refused:
        broken.arrived(part(40, 1, model))
    assert ending(broken, refused.value) is first


@pytest.mark.parametrize("first_index", [0, 39, 41])
def test_no_image_comes_twice_or_is_left_out(first_index: int) -> None:
    with pytest.raises(ReplyError, match=f"sent image {first_index} of the stream instead of 40"):
        stream(40).arrived(part(first_index, 1))


def test_a_stream_that_went_on_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "progan_client")
    broken = stream(40)
    broken.pause_s(DRAINING, LONG_S)
    broken.pause_s(LOST, LONG_S)
    assert caplog.messages == []
    broken.arrived(part(40, 10))
    broken.arrived(part(50, 10))
    assert caplog.messages == ["the stream went on after 40 of 100 images: the server is shutting down"]


@pytest.mark.parametrize(("loop", "frames"), [(False, 3 + 2 * 4), (True, 3 * 5)])
def test_the_frames_of_a_walk_are_counted(loop: bool, frames: int) -> None:
    assert frame_count(interpolate_request(seeds=[1, 2, 3], frames_between=4, loop=loop)) == frames
