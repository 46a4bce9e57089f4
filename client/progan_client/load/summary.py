"""Describe a load test in words: its models, its load, its progress. Pure."""

import math
from collections import Counter

from progan_client.load.plan import Load
from progan_client.load.report import Report


def headline(report: Report) -> list[str]:
    """Return two lines: the model and its images, and the load."""
    load = report.load
    models = ", ".join(report.models) if len(report.models) < 2 else _counted(report.models)
    size = f" of {report.size[1]}x{report.size[0]} pixels" if report.size else ""
    return [
        f"{f'{models} at ' if models else ''}{report.target}: {plural(load.images, 'image')}{size} per call, "
        f"{load.encoding}",
        f"{_pace(load)}, {_limits(load)}{'; interrupted' if report.interrupted else ''}",
    ]


def progress_line(report: Report, now_s: float) -> str:
    """Return the progress `now_s` seconds after the start."""
    load = report.load
    if now_s < load.warmup_s:
        return f"warming up, {int(now_s)} of {load.warmup_s:g} s"
    line = f"{int(now_s - load.warmup_s)}{'' if load.duration_s == math.inf else f' of {load.duration_s:g}'} s"
    line += f"  {plural(report.calls, 'call')}  {report.calls_per_s:,.1f}/s"
    if report.calls:
        line += f"  p50 {milliseconds(report.latency.percentile(50))} ms"
    return line + (f"  {report.failed_calls:,} failed" if report.failures else "")


def milliseconds(seconds: float) -> str:
    """Round to three significant digits, at most to a microsecond: 0.0123456 -> "12.3"; NaN -> "-"."""
    if math.isnan(seconds):
        return "-"
    number = seconds * 1000
    digits = 2 - math.floor(math.log10(float(f"{number:.3g}"))) if number > 0 else 0
    return f"{number:,.{min(max(digits, 0), 3)}f}"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun: (1, "call") -> "1 call", (2000, "call") -> "2,000 calls"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _pace(load: Load) -> str:
    if load.rate is None:
        return f"{plural(load.clients, 'client')} in a closed loop"
    intervals = "equal" if load.even else "random"
    return f"{load.rate:g} calls/s in an open loop, {intervals} intervals, at most {load.clients:,} in flight"


def _limits(load: Load) -> str:
    limits = [] if load.duration_s == math.inf else [f"{load.duration_s:g} s"]
    limits += [] if load.calls is None else [plural(load.calls, "call")]
    warmup = f" after {load.warmup_s:g} s of warm-up" if load.warmup_s else ""
    return f"{' or '.join(limits)}{warmup}"


def _counted(models: Counter[str]) -> str:
    return ", ".join(f"{model} ({count:,})" for model, count in models.most_common())
