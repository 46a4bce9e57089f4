"""Models and load reports as lines of plain text, 100 columns wide."""

import textwrap
from collections.abc import Iterable, Sequence

from progan_client.command.terminal import printable
from progan_client.load.histogram import Histogram
from progan_client.load.report import PERCENTILES, Report
from progan_client.load.summary import headline, milliseconds, plural
from progan_client.models import Model, ModelVersion

WIDTH = 100
MAX_LABELS = 50  # above it, only their number is shown

_Row = Sequence[str]


def table(rows: Sequence[_Row], *, indent: str = "", numbers: bool = False) -> list[list[str]]:
    """Return the lines of each row: aligned columns, two spaces apart.

    A last cell that does not fit into WIDTH continues below itself. `numbers` aligns all columns but the first to the
    right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_row_lines(row, widths, indent, numbers) for row in rows]


def model_lines(model: Model) -> list[str]:
    """Return the name of a model, then a row for each version, newest first, with notes below it."""
    lines = [f"{model.name} (default)" if model.is_default else model.name]
    lines += _note("error", model.error)
    if model.pinned_version not in (None, *(version.version for version in model.versions)):
        lines += _note("pinned", f"version {model.pinned_version}, which is not in the store")
    headings = ("VERSION", "STATE", "IMAGES", "LATENT", "DIGEST", "USE")
    heading, *rows = table([headings, *(_version_row(model, version) for version in model.versions)], indent="  ")
    lines += heading
    for row, version in zip(rows, model.versions, strict=True):
        lines += [*row, *_notes(version)]
    return lines


def report_lines(report: Report) -> list[str]:
    """Return a load report: the load, the successful and failed calls, their latencies."""
    latencies = ["", *_joined(table(_latency_rows(report), numbers=True))] if report.calls else []
    return [*headline(report), "", *_joined(table(_count_rows(report))), *_failures(report), *latencies]


def _row_lines(row: _Row, widths: Sequence[int], indent: str, numbers: bool) -> list[str]:
    if numbers:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return [indent + "  ".join(cells)]
    cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
    first_columns = indent + "".join(f"{cell}  " for cell in cells)
    return _wrapped(row[-1], first_columns, " " * len(first_columns)) or [first_columns.rstrip()]


def _joined(rows: Iterable[list[str]]) -> list[str]:
    return [line for row in rows for line in row]


def _version_row(model: Model, version: ModelVersion) -> _Row:
    labels = sorted(model.version_labels.items())
    uses = [("serving", model.serving_version), ("pinned", model.pinned_version), *labels]
    return (
        str(version.version),
        version.state,
        _images(version),
        str(version.latent_size or "-"),
        version.digest[:19] or "-",  # "sha256:" and 12 digits are enough to tell versions apart
        ", ".join(use for use, number in uses if number == version.version),
    )


def _images(version: ModelVersion) -> str:
    if not version.resolution:  # its metadata is unreadable
        return "-"
    return f"{version.resolution}x{version.resolution} {'grey' if version.channels == 1 else 'RGB'}"


def _notes(version: ModelVersion) -> list[str]:
    return [
        *_note("origin", _origin(version)),
        *_note(version.label_kind, _labels(version)),
        *_note("directions", _directions(version)),
        *_note("memory", f"{version.memory_bytes / 2**20:,.0f} MiB" if version.memory_bytes else ""),
        *_note("error", version.error),
    ]


def _origin(version: ModelVersion) -> str:
    known = " ".join(text for text in (version.source, version.origin) if text)
    shown = version.provenance.get("images_shown")
    return f"{known}, {shown} images shown" if known and isinstance(shown, int) else known


def _labels(version: ModelVersion) -> str:
    if 0 < len(version.label_names) <= MAX_LABELS:
        return ", ".join(version.label_names)
    return str(version.label_count or "")


def _directions(version: ModelVersion) -> str:
    """Return the names, with the correlation of those that were fitted: "size (r 0.78), axis-1"."""
    found = version.directions.values()
    return ", ".join(f"{each.name} (r {each.r:.2f})" if each.origin == "fitted" else each.name for each in found)


def _note(name: str, text: str) -> list[str]:
    return _wrapped(f"{name}: {text}", " " * 11, " " * 13) if text else []


def _count_rows(report: Report) -> list[_Row]:
    rates = f"{report.calls_per_s:,.1f} calls/s, {report.images_per_s:,.1f} images/s"
    rows = [("succeeded", f"{plural(report.calls, 'call')}, {rates}")]
    if report.load.rate is not None:
        unsent = f", {plural(report.unsent, 'call')} due but never sent" if report.unsent else ""
        rows.append(("sent", f"{report.sent_per_s:,.1f} of {report.load.rate:,.1f} calls/s{unsent}"))
    if report.failures:
        share = 100 * report.failed_calls / (report.failed_calls + report.calls)
        rows.append(("failed", f"{plural(report.failed_calls, 'call')}, {share:.3g} %"))
    return list(rows)


def _failures(report: Report) -> list[str]:
    most_first = sorted(report.failures.items(), key=lambda item: -item[1].count)
    return [f"  {code} {failure.count:,}: {failure.message}" for code, failure in most_first]


def _latency_rows(report: Report) -> list[_Row]:
    """Return percentiles in milliseconds: a row for the whole call and one for each of its stages."""
    headings = ["ms", *(f"p{percent:g}" for percent in PERCENTILES), "max"]
    stages = {f"  {name}": stage for name, stage in report.stages.items()}
    late = {"sent late": report.late} if report.late.count else {}
    histograms = {"latency": report.latency, **stages, **late}
    return [headings, *([name, *_percentiles(histogram)] for name, histogram in histograms.items())]


def _percentiles(histogram: Histogram) -> list[str]:
    seconds = [*(histogram.percentile(percent) for percent in PERCENTILES), histogram.max_s]
    return [milliseconds(value) for value in seconds]


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Wrap a text into lines that begin with `first` and `others`; addresses and paths stay whole."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
