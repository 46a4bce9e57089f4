"""Streams of images: in order, at the pace of their reader, until somebody leaves or something fails."""

import io
import time
from pathlib import Path

import numpy as np
from PIL import Image
from progan_v1 import (
    FAIL,
    PATIENCE_S,
    PNG,
    WIDE_IMAGES,
    Guest,
    begin_waiting,
    floats,
    greys,
    refusal,
    seed_range,
    settled,
    shaded,
    until,
    vectors,
    wide_stream,
)

from progan_protos.v1 import image_generator_pb2 as pb


def test_a_stream_of_a_thousand_images_comes_in_order(puppets: Guest) -> None:
    shades = np.random.default_rng(7).integers(-10, 10, 1000)
    came: list[int] = []
    request = pb.StreamGenerateRequest(latents=shaded(*shades))
    for reply in puppets.stub.StreamGenerate(request, timeout=PATIENCE_S):
        assert reply.first_index == len(came)
        assert floats(reply.latents)[:, 0].tolist() == shades[len(came) : len(came) + reply.images.count].tolist()
        came += greys(reply.images)
    assert came == (100 + 10 * shades).tolist()


def test_a_stream_sends_pictures_in_the_format_that_was_asked_for(puppets: Guest) -> None:
    request = pb.StreamGenerateRequest(latents=shaded(1, 2, 3, 4, 5, 6), format=PNG)
    replies = list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S))
    files = [file for reply in replies for file in reply.images.files]
    assert [Image.open(io.BytesIO(file)).getpixel((0, 0))[0] for file in files] == [110, 120, 130, 140, 150, 160]
    assert {reply.model.version for reply in replies} == {2}


def test_a_slow_reader_holds_the_work_back_and_loses_nothing(puppets: Guest) -> None:
    before = puppets.metric(WIDE_IMAGES)
    stream = wide_stream(puppets, 400)
    came = next(stream).images.count
    made = settled(lambda: puppets.metric(WIDE_IMAGES)) - before
    assert came <= made < 200
    came += sum(reply.images.count for reply in stream)
    assert came == 400


def test_a_cancelled_stream_stops_its_work(puppets: Guest) -> None:
    cancelled = puppets.metric('progan_requests_total{code="CANCELLED",method="StreamGenerate",model="wide"}')
    stream = wide_stream(puppets, 1_000_000)
    next(stream)
    stream.cancel()
    until(
        lambda: (
            puppets.metric('progan_requests_total{code="CANCELLED",method="StreamGenerate",model="wide"}')
            == cancelled + 1
        )
    )
    puppets.queued(0)
    made = puppets.metric(WIDE_IMAGES)
    time.sleep(0.3)
    assert puppets.metric(WIDE_IMAGES) == made


def test_a_stream_under_way_waits_for_room_in_a_full_queue(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    stream = puppets.stub.StreamGenerate(pb.StreamGenerateRequest(latents=seed_range(0, 40)), timeout=PATIENCE_S)
    puppets.queued(16)
    hold.unlink()
    assert sum(reply.images.count for reply in stream) == 40
    assert [call.result().images.count for call in calls] == [1, 12]


def test_a_stream_that_finds_no_room_for_its_first_images_is_refused(puppets: Guest, hold: Path) -> None:
    calls = begin_waiting(puppets, 12)
    calls.append(puppets.begin_generate(*[(1, 0, 0, 1)] * 4))
    puppets.queued(16)
    request = pb.StreamGenerateRequest(latents=seed_range(0, 40))
    refused = refusal(lambda: list(puppets.stub.StreamGenerate(request, timeout=PATIENCE_S)))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    hold.unlink()
    assert [call.result().images.count for call in calls] == [1, 12, 4]


def test_a_lone_call_is_answered_while_a_stream_of_a_million_runs(puppets: Guest) -> None:
    stream = puppets.stub.StreamGenerate(pb.StreamGenerateRequest(latents=seed_range(0, 1_000_000)), timeout=PATIENCE_S)
    next(stream)
    assert greys(puppets.generate((5, 0, 0, 0)).images) == [150]
    stream.cancel()


def test_a_fault_in_the_middle_of_a_stream_comes_after_the_images_before_it(puppets: Guest) -> None:
    rows = [(1, 0, 0, 1)] * 40 + [FAIL]
    came: list[int] = []

    def read() -> None:
        request = pb.StreamGenerateRequest(latents=vectors(*rows))
        for reply in puppets.stub.StreamGenerate(request, timeout=PATIENCE_S):
            came.extend(greys(reply.images))

    assert refusal(read).code == "INTERNAL"
    assert came[:32] == [110] * 32  # two batches of four may be on their way together with the bad one
    puppets.queued(0)
