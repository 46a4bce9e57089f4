"""The measurements of a load test, as numbers and as JSON. Pure."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from progan_client.images import StageTimes
from progan_client.load.histogram import Histogram
from progan_client.load.plan import Load

PERCENTILES = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of a reply that is measured: `size` is (H, W, C) of its images, `model` such as "fruits version 2"."""

    images: int
    size: tuple[int, int, int]
    model: str
    times: StageTimes


@dataclass
class Failure:
    """The number of calls that failed with one status code, and the message of the first."""

    message: str
    count: int = 0


class Report:
    """The measurements so far; memory does not grow with the number of calls. Times are seconds since the start.

    `latency`      of successful calls, from when each was due.
    `late`         open loop: from when a call was due until it was sent.
    `queue`, `inference`, `encode`   of successful calls, as measured by the service.
    `images`       number of images received.
    `models`       model version -> number of its successful calls.
    `size`         (H, W, C) of the images; None before the first.
    `failures`     status code -> calls that failed with it.
    `unsent`       open loop: calls that were due, but not sent before the end.
    `elapsed_s`    seconds from the start of the measurement to the last success or failure.
    `interrupted`  whether the load was ended early.
    """

    def __init__(self, target: str, load: Load) -> None:
        self.target = target
        self.load = load
        self.latency, self.late = Histogram(), Histogram()
        self.queue, self.inference, self.encode = Histogram(), Histogram(), Histogram()
        self.images = 0
        self.models: Counter[str] = Counter()
        self.size: tuple[int, int, int] | None = None
        self.failures: dict[str, Failure] = {}
        self.unsent = 0
        self.elapsed_s = 0.0
        self.interrupted = False
        self._last_sent_s = 0.0

    def sent(self, due_s: float, sent_s: float) -> None:
        """Record that a call was sent."""
        if due_s >= self.load.warmup_s and self.load.rate is not None:
            self.late.add(sent_s - due_s)
            self._last_sent_s = sent_s

    def answered(self, due_s: float, done_s: float, answer: Answer) -> None:
        """Record that a call succeeded."""
        if due_s < self.load.warmup_s:
            return
        self.latency.add(done_s - due_s)
        self.queue.add(answer.times.queue_s)
        self.inference.add(answer.times.inference_s)
        self.encode.add(answer.times.encode_s)
        self.images += answer.images
        self.models[answer.model] += 1
        self.size = self.size or answer.size
        self.elapsed_s = done_s - self.load.warmup_s

    def failed(self, due_s: float, done_s: float, code: str, message: str) -> None:
        """Record that a call failed."""
        if due_s >= self.load.warmup_s:
            self.failures.setdefault(code, Failure(message)).count += 1
            self.elapsed_s = done_s - self.load.warmup_s

    def not_sent(self, due_s: float) -> None:
        """Record that a call was due, but could not be sent before the end."""
        self.unsent += due_s >= self.load.warmup_s

    @property
    def calls(self) -> int:
        """Number of successful calls."""
        return self.latency.count

    @property
    def failed_calls(self) -> int:
        """Number of failed calls."""
        return sum(failure.count for failure in self.failures.values())

    @property
    def calls_per_s(self) -> float:
        """Successful calls per second."""
        return self._per_s(self.calls, self.elapsed_s)

    @property
    def images_per_s(self) -> float:
        """Images per second."""
        return self._per_s(self.images, self.elapsed_s)

    @property
    def sent_per_s(self) -> float:
        """Open loop: calls sent per second, successful or not."""
        return self._per_s(self.late.count, self._last_sent_s - self.load.warmup_s)

    @property
    def stages(self) -> dict[str, Histogram]:
        """The times of the server by stage."""
        return {"queue": self.queue, "inference": self.inference, "encode": self.encode}

    def _per_s(self, count: int, seconds: float) -> float:
        return count / seconds if count and seconds > 0 else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """Return all measurements, ready for `json.dump`. Names have units; unknown values are None."""
    load = asdict(report.load)
    load["duration_s"] = None if report.load.duration_s == math.inf else report.load.duration_s
    return {
        "target": report.target,
        "load": load,
        "interrupted": report.interrupted,
        "elapsed_s": report.elapsed_s,
        "calls": report.calls,
        "calls_per_s": report.calls_per_s,
        "images": report.images,
        "images_per_s": report.images_per_s,
        "image_size": report.size and dict(zip(("height", "width", "channels"), report.size, strict=True)),
        "models": dict(report.models),
        "failed_calls": report.failed_calls,
        "failures": {code: asdict(failure) for code, failure in report.failures.items()},
        "latency": _numbers(report.latency),
        "server": {name: _numbers(stage) for name, stage in report.stages.items()},
        "open_loop": None
        if report.load.rate is None
        else {"sent_per_s": report.sent_per_s, "unsent_calls": report.unsent, "late": _numbers(report.late)},
        "latency_buckets": [
            {"above_s": above, "up_to_s": up_to, "calls": count} for above, up_to, count in report.latency.buckets()
        ],
    }


def _numbers(histogram: Histogram) -> dict[str, Any] | None:
    if not histogram.count:
        return None
    percentiles = {f"{percent:g}": histogram.percentile(percent) for percent in PERCENTILES}
    return {
        "mean_s": histogram.mean_s,
        "min_s": histogram.min_s,
        "percentiles_s": percentiles,
        "max_s": histogram.max_s,
    }
