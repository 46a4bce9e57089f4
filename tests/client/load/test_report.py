"""A load test: when calls are due, the report as text, JSON and a picture."""

import json
import math
from itertools import islice, pairwise
from typing import Any

import pytest
from PIL import Image

from progan_client import ArgumentError, StageTimes
from progan_client.command.listing import report_lines
from progan_client.load.picture import latency_picture
from progan_client.load.plan import Load, due_times
from progan_client.load.report import Answer, Report, as_json
from progan_client.load.summary import milliseconds, progress_line


def answer(queue_s: float = 0.002) -> Answer:
    return Answer(2, (64, 64, 3), "fruits version 2", StageTimes(queue_s, 0.010, 0.0005))


@pytest.fixture
def report() -> Report:
    """A hundred calls of 10 to 1,000 ms in ten seconds, and three that failed."""
    report = Report("there:8500", Load(images=2, encoding="png", warmup_s=1))
    for number in range(1, 101):
        report.answered(10, 10 + number / 100, answer())
    report.failed(10, 11, "RESOURCE_EXHAUSTED", "the queue is full")
    report.failed(10, 11, "RESOURCE_EXHAUSTED", "the queue is full again")
    report.failed(10, 11, "UNAVAILABLE", "draining")
    return report


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "2"}, "images: must be an integer; got '2'"),
        ({"clients": True}, "clients: must be an integer; got True"),
        ({"connections": 0}, "connections: must be 1 to 10000; got 0"),
        ({"calls": 0}, "calls: must be at least 1; got 0"),
        ({"rate": "9"}, "rate: must be a number of calls per second above 0; got '9'"),
        ({"warmup_s": "1"}, "warmup_s: must be a number of seconds, 0 or more; got '1'"),
        ({"duration_s": "1"}, "duration_s: must be a number of seconds above 0; got '1'"),
        ({"duration_s": math.nan}, "duration_s: must be a number of seconds above 0; got nan"),
        ({"timeout_s": "1"}, "timeout_s: must be a number of seconds above 0; got '1'"),
    ],
)
def test_a_load_of_no_numbers_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Load(**settings)
    assert str(caught.value) == message


def test_calls_fall_due_evenly_until_the_end() -> None:
    assert list(due_times(Load(rate=4, even=True, warmup_s=0, duration_s=1), lambda: 0.0)) == [0.25, 0.5, 0.75, 1.0]


def test_calls_fall_due_at_random_at_the_same_rate_and_the_same_in_every_run() -> None:
    load = Load(rate=100, duration_s=100, warmup_s=0)
    dues = list(due_times(load, lambda: 0.0))
    assert dues == list(due_times(load, lambda: 0.0))
    assert len(dues) == pytest.approx(10_000, rel=0.03)
    gaps = [later - earlier for earlier, later in pairwise(dues)]
    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, rel=0.05)


def test_a_number_of_calls_is_counted_after_the_warm_up() -> None:
    load = Load(rate=2, even=True, warmup_s=2, duration_s=math.inf, calls=3)
    assert list(due_times(load, lambda: 0.0)) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_a_closed_loop_is_due_when_it_asks() -> None:
    clock = iter([0.0, 0.7, 0.9, 2.5, 3.5])
    assert list(islice(due_times(Load(warmup_s=1, duration_s=2), lambda: next(clock)), 9)) == [0.0, 0.7, 0.9, 2.5]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"clients": 0}, "clients: must be 1 to 10000; got 0"),
        ({"rate": 0.0}, "rate: must be a number of calls per second above 0; got 0.0"),
        ({"even": True}, "even: needs a rate; got True"),
        ({"duration_s": math.inf}, "duration_s: must be a number of seconds above 0; got inf"),
        ({"duration_s": math.nan}, "duration_s: must be a number of seconds above 0; got nan"),
        ({"warmup_s": -1.0}, "warmup_s: must be a number of seconds, 0 or more; got -1.0"),
        ({"calls": 0}, "calls: must be at least 1; got 0"),
        ({"timeout_s": math.inf}, "timeout_s: must be a number of seconds above 0; got inf"),
    ],
)
def test_a_load_is_checked_when_made(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Load(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == sentence


def test_a_report_in_words(report: Report) -> None:
    assert report_lines(report) == [
        "fruits version 2 at there:8500: 2 images of 64x64 pixels per call, png",
        "8 clients in a closed loop, 10 s after 1 s of warm-up",
        "",
        "succeeded  100 calls, 10.0 calls/s, 20.0 images/s",
        "failed     3 calls, 2.91 %",
        "  RESOURCE_EXHAUSTED 2: the queue is full",
        "  UNAVAILABLE 1: draining",
        "",
        "ms             p50    p90    p95    p99  p99.9    max",
        "latency        502    896    951    990  1,000  1,000",
        "  queue       2.00   2.00   2.00   2.00   2.00   2.00",
        "  inference   10.0   10.0   10.0   10.0   10.0   10.0",
        "  encode     0.500  0.500  0.500  0.500  0.500  0.500",
    ]


def test_a_report_of_an_open_loop_shows_how_late_calls_were() -> None:
    report = Report("there:8500", Load(rate=10, warmup_s=0, duration_s=2, clients=64))
    for number in range(1, 11):
        report.sent(number / 10, number / 5)
        report.answered(number / 10, number / 5 + 0.1, answer())
    report.not_sent(2.0)
    lines = report_lines(report)
    assert lines[1] == "10 calls/s in an open loop, random intervals, at most 64 in flight, 2 s"
    assert lines[4] == "sent       5.0 of 10.0 calls/s, 1 call due but never sent"
    assert lines[-1] == "sent late      502    896  1,000  1,000  1,000  1,000"


def test_a_report_of_nothing() -> None:
    report = Report("there:8500", Load(duration_s=math.inf, calls=5, clients=1, warmup_s=0))
    assert report_lines(report) == [
        "there:8500: 1 image per call, raw",
        "1 client in a closed loop, 5 calls",
        "",
        "succeeded  0 calls, 0.0 calls/s, 0.0 images/s",
    ]
    assert as_json(report)["latency"] is None
    assert latency_picture(report).size == (1600, 900)


def test_calls_of_the_warm_up_are_not_counted() -> None:
    report = Report("there:8500", Load(warmup_s=1, rate=1))
    report.sent(0.9, 5.0)
    report.answered(0.9, 5.0, answer())
    report.failed(0.9, 5.0, "UNAVAILABLE", "draining")
    report.not_sent(0.9)
    assert (report.calls, report.failed_calls, report.unsent, report.late.count, report.elapsed_s) == (0, 0, 0, 0, 0)


def test_a_swap_of_versions_shows(report: Report) -> None:
    report.answered(2, 3, Answer(2, (64, 64, 3), "fruits version 3", StageTimes(0, 0, 0)))
    assert report_lines(report)[0].startswith("fruits version 2 (100), fruits version 3 (1) at there:8500")


def test_a_report_in_json_holds_every_number(report: Report) -> None:
    numbers = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert numbers["load"]["encoding"] == "png"
    assert (numbers["calls"], numbers["images"], numbers["failed_calls"]) == (100, 200, 3)
    assert numbers["latency"]["percentiles_s"]["99"] == pytest.approx(0.99, rel=0.01)
    assert (numbers["latency"]["min_s"], numbers["latency"]["max_s"]) == pytest.approx((0.01, 1.0))
    assert numbers["server"]["queue"]["percentiles_s"]["50"] == pytest.approx(0.002)
    assert numbers["failures"]["RESOURCE_EXHAUSTED"] == {"message": "the queue is full", "count": 2}
    assert numbers["image_size"] == {"height": 64, "width": 64, "channels": 3}
    assert sum(bucket["calls"] for bucket in numbers["latency_buckets"]) == 100
    assert numbers["open_loop"] is None


def test_progress(report: Report) -> None:
    assert progress_line(report, 0.5) == "warming up, 0 of 1 s"
    assert progress_line(report, 11.0) == "10 of 10 s  100 calls  10.0/s  p50 502 ms  3 failed"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (1e-6, "0.001"), (0.0123456, "12.3"), (0.09999999, "100"), (12.3456, "12,346"), (math.nan, "-")],
)
def test_milliseconds(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(1 << 20)}  # type: ignore[union-attr,misc]


def test_a_picture_marks_every_percentile(report: Report) -> None:
    picture = latency_picture(report)
    assert (picture.size, picture.mode) == ((1600, 900), "RGB")
    blue, sky, amber, orange, red, ink = (
        (43, 108, 176),
        (63, 147, 204),
        (217, 154, 11),
        (232, 112, 26),
        (214, 69, 69),
        (31, 41, 51),
    )
    assert {blue, sky, amber, orange, red, ink} <= colours(picture)


@pytest.mark.parametrize("latencies", [[0.01], [0.0, 0.0], [1e-4, 29.0], [0.02, 0.0201, 0.0202]])
def test_any_latencies_make_a_picture(latencies: list[float]) -> None:
    report = Report("there:8500", Load(warmup_s=0))
    for latency in latencies:
        report.answered(1, 1 + latency, answer())
    assert (43, 108, 176) in colours(latency_picture(report))
