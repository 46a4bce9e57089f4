"""A stream of inference requests: each gets its answer when it is ready, and an error ends nothing."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from open_inference import Caller, array_of, inference

SEEDS = np.array([4], np.uint64)


def test_good_bad_good(caller: Caller) -> None:
    requests = [
        inference("puppet", seeds=SEEDS, request_id="1"),
        inference("nobody", seeds=SEEDS, request_id="2"),
        inference("puppet", seeds=SEEDS, request_id="3"),
    ]
    replies = {reply.infer_response.id: reply for reply in caller.converse(iter(requests))}
    assert sorted(replies) == ["1", "2", "3"]
    assert replies["2"].error_message == "no model 'nobody'; this server has: labelled, puppet, wide"
    for number in ("1", "3"):
        assert replies[number].error_message == ""
        assert array_of(replies[number].infer_response, "images").shape == (1, 4, 4, 3)


def test_an_answer_does_not_wait_for_those_asked_before(caller: Caller, hold: Path) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    replies = caller.converse(iter(requests.get, None))
    waiting = np.array([[0, 0, 99, 0]], np.float32)  # keeps the device of its model busy while there is `hold`
    requests.put(inference("puppet", latents=waiting, request_id="slow"))
    requests.put(inference("nobody", seeds=SEEDS, request_id="quick"))
    assert next(replies).infer_response.id == "quick"
    hold.unlink()
    assert next(replies).infer_response.id == "slow"
    requests.put(None)
    assert list(replies) == []


def test_hundreds_of_requests_get_hundreds_of_answers(tiny: Caller) -> None:
    requests = [inference(seeds=np.array([number]), request_id=str(number)) for number in range(300)]
    replies = {int(reply.infer_response.id): reply.infer_response for reply in tiny.converse(iter(requests))}
    assert sorted(replies) == list(range(300))
    whole = array_of(tiny.send("ModelInfer", inference(seeds=np.arange(256))), "images")
    for number in range(256):
        np.testing.assert_array_equal(array_of(replies[number], "images")[0], whole[number])


def flag(reply: Any) -> bool | None:
    parameters = reply.infer_response.parameters
    return parameters["triton_final_response"].bool_param if "triton_final_response" in parameters else None


def test_the_frames_of_a_walk_come_one_by_one_and_the_last_is_marked(tiny: Caller) -> None:
    parameters = {"frames_between": 5, "triton_enable_empty_final_response": True}
    request = inference(seeds=np.array([1, 2]), parameters=parameters, request_id="w")
    frames = list(tiny.converse(iter([request])))
    assert [frame.infer_response.parameters["first_index"].int64_param for frame in frames] == list(range(7))
    assert [flag(frame) for frame in frames] == [False] * 6 + [True]
    whole = array_of(
        tiny.send("ModelInfer", inference(seeds=np.array([1, 2]), parameters={"frames_between": 5})), "images"
    )
    streamed = np.concatenate([array_of(frame.infer_response, "images") for frame in frames])
    np.testing.assert_array_equal(streamed, whole)


def test_a_lone_answer_is_the_last_of_its_request_if_that_is_asked_for(tiny: Caller) -> None:
    marked = inference(seeds=SEEDS, parameters={"triton_enable_empty_final_response": True})
    assert [flag(reply) for reply in tiny.converse(iter([marked]))] == [True]
    assert [flag(reply) for reply in tiny.converse(iter([inference(seeds=SEEDS)]))] == [None]
    assert tiny.send("ModelInfer", marked).parameters["triton_final_response"].bool_param


def test_who_leaves_takes_the_work_along(tiny: Caller, puppets: Any, caller: Caller) -> None:
    def requests() -> Iterator[Any]:
        yield inference("wide", parameters={"seed": 1, "count": 2, "frames_between": 1_000_000})

    replies = caller.converse(requests())
    for _ in range(3):
        next(replies)
    replies.cancel()
    # the next call has the device to itself, and does not wait for a million frames
    assert array_of(caller.send("ModelInfer", inference("wide", seeds=SEEDS)), "images").shape == (1, 256, 256, 3)
