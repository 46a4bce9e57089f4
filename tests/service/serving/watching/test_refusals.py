"""A flood of refused calls is a line a second in the log, and the first of a kind still says why."""

import logging
from typing import Any

import pytest

from progan_service.serving.errors import QueueFull, Unread
from progan_service.serving.watching import refusals
from progan_service.serving.watching.accounted import accounted
from progan_service.serving.watching.calls import Call
from progan_service.serving.watching.metrics import Metrics

LOGGER = "progan_service.requests"


def refuse(metrics: Metrics, method: str, error: QueueFull) -> None:
    with pytest.raises(QueueFull), accounted(Call(method), metrics, ()):
        raise error


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(" in ")[0] for record in caplog.records]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The lines about calls. A second ends when a test calls `_log`."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    monkeypatch.setattr(refusals, "_TOGETHER_S", 3600)
    return caplog


async def test_the_first_refusal_of_a_kind_has_a_line_and_the_others_are_counted(
    logged: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    for _ in range(1000):
        refuse(metrics, "Generate", QueueFull("no room for 1 image", 0.5))
    for _ in range(3):
        refuse(metrics, "Interpolate", QueueFull("no room for 4 images", 0.5))
    assert lines(logged) == ["Generate RESOURCE_EXHAUSTED", "Interpolate RESOURCE_EXHAUSTED"]
    assert "no room for 1 image" in logged.messages[0]

    metrics.refusals._log()
    counts = "999 Generate RESOURCE_EXHAUSTED (QUEUE_FULL), 2 Interpolate RESOURCE_EXHAUSTED (QUEUE_FULL)"
    assert logged.messages[2:] == [f"1001 more calls refused in the last second: {counts}"]
    fields: Any = vars(logged.records[2])["fields"]
    assert fields["refused"][1] == {
        "method": "Interpolate",
        "code": "RESOURCE_EXHAUSTED",
        "reason": "QUEUE_FULL",
        "calls": 2,
    }

    refuse(metrics, "Generate", QueueFull("no room for 1 image", 0.5))
    assert lines(logged)[3:] == ["Generate RESOURCE_EXHAUSTED"]
    metrics.refusals._log()
    assert len(logged.records) == 4  # a lone refusal has said all


async def test_what_is_answered_has_its_line_whatever_is_refused_beside_it(logged: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    for _ in range(2):
        with accounted(call := Call("Generate"), metrics, ()):
            call.run()
    assert lines(logged) == ["Generate OK", "Generate OK"]


async def test_calls_that_are_refused_unread_are_counted_as_calls(logged: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    refuse(metrics, "Generate", QueueFull("no room for 1 image", 0.5))
    refuse(metrics, "Generate", Unread("there is no room", 0.5))
    assert metrics.registry.get_sample_value("progan_requests_unread_total") == 1
    assert metrics.registry.get_sample_value("progan_requests_in_flight", {"method": "Generate"}) == 0
