"""What a load test has measured, as numbers, as text and as JSON. Pure."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from progan_client.images import StageTimes
from progan_client.latency import Histogram
from progan_client.load_plan import Load

PERCENTILES = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of one reply: `size` is (H, W, C) of its images, `model` for people, "fruits version 2"."""

    images: int
    size: tuple[int, int, int]
    model: str
    times: StageTimes


@dataclass
class Failure:
    """How often calls ended with one status code, and what the first of them was told."""

    message: str
    count: int = 0


class Report:
    """Grows with every measured call, not in memory; times are seconds since the start of the load.

    `latency`      of the calls that were answered, from when each was due.
    `late`         open loop: from when a call was due until it was sent.
    `queue`, `inference`, `encode`   of the calls that were answered, as the service measured them.
    `images`       images that came.
    `models`       model version -> calls that it answered.
    `size`         (H, W, C) of the images; None before the first.
    `failures`     status code -> the calls that ended with it.
    `unsent`       open loop: calls that were due and not sent before the end.
    `elapsed_s`    measured seconds until the last answer or failure.
    `interrupted`  the load was ended before its time.
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
        """A call left."""
        if due_s >= self.load.warmup_s and self.load.rate is not None:
            self.late.add(sent_s - due_s)
            self._last_sent_s = sent_s

    def answered(self, due_s: float, done_s: float, answer: Answer) -> None:
        """A call came back with images."""
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
        """A call came back without."""
        if due_s >= self.load.warmup_s:
            self.failures.setdefault(code, Failure(message)).count += 1
            self.elapsed_s = done_s - self.load.warmup_s

    def not_sent(self, due_s: float) -> None:
        """A call was due, and the time was over before it could be sent."""
        self.unsent += due_s >= self.load.warmup_s

    @property
    def calls(self) -> int:
        """Calls that were answered."""
        return self.latency.count

    @property
    def failed_calls(self) -> int:
        """Calls that were not."""
        return sum(failure.count for failure in self.failures.values())

    @property
    def calls_per_s(self) -> float:
        """Answers a second."""
        return self._per_s(self.calls, self.elapsed_s)

    @property
    def images_per_s(self) -> float:
        """Images a second."""
        return self._per_s(self.images, self.elapsed_s)

    @property
    def sent_per_s(self) -> float:
        """Open loop: the rate really achieved, answered or not."""
        return self._per_s(self.late.count, self._last_sent_s - self.load.warmup_s)

    def _per_s(self, count: int, seconds: float) -> float:
        return count / seconds if count and seconds > 0 else 0.0


def progress_line(report: Report, now_s: float) -> str:
    """How far the load is, `now_s` seconds after its start."""
    load = report.load
    if now_s < load.warmup_s:
        return f"warming up, {int(now_s)} of {load.warmup_s:g} s"
    line = f"{int(now_s - load.warmup_s)}{'' if load.duration_s == math.inf else f' of {load.duration_s:g}'} s"
    line += f"  {_number(report.calls, 'call')}  {report.calls_per_s:,.1f}/s"
    if report.calls:
        line += f"  p50 {milliseconds(report.latency.percentile(50))} ms"
    return line + (f"  {report.failed_calls:,} failed" if report.failures else "")


def report_lines(report: Report) -> list[str]:
    """What to tell people: what was asked, how much was answered, how long it took, what failed."""
    return [*headline(report), "", *_counts(report), *_failures(report), *_table(report)]


def headline(report: Report) -> list[str]:
    """Two lines: who answered what, and how it was asked."""
    load = report.load
    models = ", ".join(report.models) if len(report.models) < 2 else _shares(report.models)
    size = f" of {report.size[1]}x{report.size[0]} pixels" if report.size else ""
    return [
        f"{f'{models} at ' if models else ''}{report.target}: {_number(load.images, 'image')}{size} a call, "
        f"{load.encoding}",
        f"{_pace(load)}, {_bounds(load)}{'; interrupted' if report.interrupted else ''}",
    ]


def as_json(report: Report) -> dict[str, Any]:
    """All that is known, ready for `json.dump`; names carry units, what is not known is None."""
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
        "server": {name: _numbers(stage) for name, stage in _stages(report)},
        "open_loop": None
        if report.load.rate is None
        else {"sent_per_s": report.sent_per_s, "unsent_calls": report.unsent, "late": _numbers(report.late)},
        "latency_buckets": [
            {"above_s": above, "up_to_s": up_to, "calls": count} for above, up_to, count in report.latency.buckets()
        ],
    }


def milliseconds(seconds: float) -> str:
    """Three significant digits, not finer than a microsecond: 0.0123456 -> "12.3"; "-" for NaN."""
    if math.isnan(seconds):
        return "-"
    number = seconds * 1000
    digits = 2 - math.floor(math.log10(float(f"{number:.3g}"))) if number > 0 else 0
    return f"{number:,.{min(max(digits, 0), 3)}f}"


def _stages(report: Report) -> list[tuple[str, Histogram]]:
    return [("queue", report.queue), ("inference", report.inference), ("encode", report.encode)]


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


def _pace(load: Load) -> str:
    if load.rate is None:
        return f"{_number(load.clients, 'client')} in a closed loop"
    arrivals = "evenly" if load.even else "at random"
    return f"{load.rate:g} calls/s in an open loop, due {arrivals}, at most {load.clients:,} in flight"


def _bounds(load: Load) -> str:
    bounds = [] if load.duration_s == math.inf else [f"{load.duration_s:g} s"]
    bounds += [] if load.calls is None else [_number(load.calls, "call")]
    warmup = f" after {load.warmup_s:g} s of warm-up" if load.warmup_s else ""
    return f"{' or '.join(bounds)}{warmup}"


def _counts(report: Report) -> list[str]:
    lines = [
        f"answered   {_number(report.calls, 'call')}, {report.calls_per_s:,.1f} calls/s, "
        f"{report.images_per_s:,.1f} images/s"
    ]
    if report.load.rate is not None:
        asked = report.load.rate
        behind = f", {_number(report.unsent, 'call')} due and never sent" if report.unsent else ""
        lines.append(f"sent       {report.sent_per_s:,.1f} calls/s of {asked:,.1f}{behind}")
    return lines


def _failures(report: Report) -> list[str]:
    if not report.failures:
        return []
    share = 100 * report.failed_calls / (report.failed_calls + report.calls)
    worst_first = sorted(report.failures.items(), key=lambda item: -item[1].count)
    return [
        f"failed     {_number(report.failed_calls, 'call')}, {share:.3g} %",
        *(f"  {code} {failure.count:,}: {failure.message}" for code, failure in worst_first),
    ]


def _table(report: Report) -> list[str]:
    """Percentiles in milliseconds, a row each of the whole call and its parts."""
    if not report.calls:
        return []
    rows = [("latency", report.latency), *((f"  {name}", stage) for name, stage in _stages(report))]
    rows += [("sent late", report.late)] if report.late.count else []
    head = "".join(f"{title:>9}" for title in [*(f"p{percent:g}" for percent in PERCENTILES), "max"])
    return ["", f"{'ms':11}{head}", *(f"{name:11}{_cells(histogram)}" for name, histogram in rows)]


def _cells(histogram: Histogram) -> str:
    values = [*(histogram.percentile(percent) for percent in PERCENTILES), histogram.max_s]
    return "".join(f"{milliseconds(value):>9}" for value in values)


def _shares(models: Counter[str]) -> str:
    return ", ".join(f"{model} ({count:,})" for model, count in models.most_common())


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
