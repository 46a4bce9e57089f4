"""Models as lines of text for people, 100 columns wide."""

import textwrap

from progan_client.models import Model, ModelVersion

WIDTH = 100
MOST_LABELS = 50  # more are only counted

_HEADING = ("VERSION", "STATE", "IMAGES", "LATENT", "DIGEST", "USE")


def model_lines(model: Model) -> list[str]:
    """A model's name, then a row for each version, newest first, with what the version says of itself below it."""
    lines = [f"{model.name} (default)" if model.is_default else model.name]
    lines += _note("error", model.error)
    if model.pinned_version not in (None, *(version.version for version in model.versions)):
        lines += _note("pinned", f"version {model.pinned_version}, which is not in the store")
    rows = [_HEADING, *(_row(model, version) for version in model.versions)]
    notes = [[], *(_notes(version) for version in model.versions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, below in zip(rows, notes, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        first_columns = "  ".join(["", *cells[:-1], ""])
        lines += _wrapped(row[-1], first_columns, " " * len(first_columns)) or [first_columns.rstrip()]
        lines += below
    return lines


def _row(model: Model, version: ModelVersion) -> tuple[str, ...]:
    labels = sorted(model.version_labels.items())
    uses = [("serves", model.serving_version), ("pinned", model.pinned_version), *labels]
    return (
        str(version.version),
        version.state,
        _images(version),
        str(version.latent_size or "-"),
        version.digest[:19] or "-",  # "sha256:" and 12 digits tell versions apart
        ", ".join(use for use, number in uses if number == version.version),
    )


def _images(version: ModelVersion) -> str:
    if not version.resolution:  # its metadata cannot be read
        return "-"
    return f"{version.resolution}x{version.resolution} {'grey' if version.channels == 1 else 'RGB'}"


def _notes(version: ModelVersion) -> list[str]:
    return [
        *_note("origin", _origin(version)),
        *_note("labels", _labels(version)),
        *_note("error", version.error),
    ]


def _origin(version: ModelVersion) -> str:
    known = " ".join(text for text in (version.source, version.origin) if text)
    shown = version.provenance.get("images_shown")
    return f"{known}, {shown} images shown" if known and isinstance(shown, int) else known


def _labels(version: ModelVersion) -> str:
    if 0 < len(version.label_names) <= MOST_LABELS:
        return ", ".join(version.label_names)
    return str(version.label_count or "")


def _note(what: str, text: str) -> list[str]:
    return _wrapped(f"{what}: {text}", " " * 11, " " * 13) if text else []


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Lines that begin with `first` and `others`; addresses and paths stay whole."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(
        printable,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
