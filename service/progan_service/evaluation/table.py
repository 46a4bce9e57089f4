"""Figures of several sets of images as a table of plain text."""

from collections.abc import Mapping, Sequence

LEVEL = "SWDx1e3_"  # and a resolution: the column of a level

_FOUR_DIGITS = ("MS-SSIM", "precision", "recall")  # after the point; other columns have two


def table(heading: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Return a line for each row: its name and its figures by column. A column that a row lacks is a dash.

    The levels of SWD come first, the largest first.
    """
    columns = dict.fromkeys(name for _, figures in rows for name in figures)
    levels = sorted(filter(_is_level, columns), key=lambda name: -int(name.removeprefix(LEVEL)))
    names = [*levels, *(name for name in columns if not _is_level(name))]
    width = max(len(heading), *(len(name) for name, _ in rows))
    lines = [f"{heading:{width}}" + "".join(f"  {name:>{_width(name)}}" for name in names)]
    for row, figures in rows:
        cells = (f"  {_cell(name, figures.get(name)):>{_width(name)}}" for name in names)
        lines.append(f"{row:{width}}" + "".join(cells))
    return "\n".join(lines)


def _is_level(name: str) -> bool:
    return name.startswith(LEVEL) and name.removeprefix(LEVEL).isdecimal()


def _width(name: str) -> int:
    return max(len(name), 6)


def _cell(name: str, figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.{4 if name in _FOUR_DIGITS else 2}f}"
