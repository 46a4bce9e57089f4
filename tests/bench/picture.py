"""Draws all figures of build/bench/*.json to results.png, and writes them as a Markdown table to results.md."""

import json
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from results import DIRECTORY, Row, digits

WIDTH, TALLEST, MARGIN = 1600, 20_000, 60
LABELS, BARS, NOTES = 484, (500, 830), 940  # where labels end, where bars begin and the longest ends, where notes begin
LINE_HEIGHT, GAP = 32, 20
INK, GREY, RULE, PAPER, BLUE = "#1f2933", "#66727f", "#e3e8ed", "#ffffff", "#2b6cb0"

Result = dict[str, Any]  # of one benchmark, as `publish` wrote it


def main() -> None:
    results = sorted((json.loads(file.read_text()) for file in DIRECTORY.glob("*.json")), key=lambda r: r["date"])
    picture(results).save(DIRECTORY / "results.png")
    (DIRECTORY / "results.md").write_text(markdown(results))
    print("build/bench/results.png and results.md: all figures as a picture and as a table")


def markdown(results: list[Result]) -> str:
    lines = [f"{'; '.join(origin(results))}.", "", "| | | | |", "|---|---|---:|---|"]
    for result in results:
        for number, row in enumerate(rows(result)):
            name = "" if number else f"**{title(result)}**"
            lines.append(f"| {name} | {row.what} | {digits(row.value)} {row.unit} | {row.note} |")
    return "\n".join(lines) + "\n"


def picture(results: list[Result]) -> Image.Image:
    image = Image.new("RGB", (WIDTH, TALLEST), PAPER)
    draw = ImageDraw.Draw(image)
    y = draw_origin(draw, MARGIN, results)
    for result in results:
        y = draw_benchmark(draw, y + GAP, result)
    return image.crop((0, 0, WIDTH, y + MARGIN))


def draw_origin(draw: ImageDraw.ImageDraw, y: int, results: list[Result]) -> int:
    """These functions draw from `y` on and return the `y` where they ended."""
    draw.text((MARGIN, y), "Benchmarks", INK, font(42), "lm")
    y += 2 * GAP
    for line in origin(results):
        draw.text((MARGIN, y), line, GREY, font(24), "lm")
        y += LINE_HEIGHT
    return y


def draw_benchmark(draw: ImageDraw.ImageDraw, y: int, result: Result) -> int:
    draw.line([(MARGIN, y), (WIDTH - MARGIN, y)], RULE, 2)
    y += 2 * GAP
    draw.text((MARGIN, y), title(result), INK, font(30), "lm")
    y += LINE_HEIGHT
    for unit in dict.fromkeys(row.unit for row in rows(result)):
        draw.text((BARS[0], y), unit, GREY, font(22), "lm")
        y = draw_bars(draw, y + LINE_HEIGHT, [row for row in rows(result) if row.unit == unit]) + GAP // 2
    return y


def draw_bars(draw: ImageDraw.ImageDraw, y: int, compared: list[Row]) -> int:
    longest = max(row.value for row in compared) or 1.0
    for row in compared:
        length = (BARS[1] - BARS[0]) * row.value / longest
        right = BARS[0] + max(2, round(length))
        draw.text((LABELS, y), row.what, INK, font(22), "rm")
        draw.rectangle([BARS[0], y - 11, right, y + 11], BLUE)
        draw.text((right + 10, y), digits(row.value), INK, font(22), "lm")
        draw.text((NOTES, y), row.note, GREY, font(22), "lm")
        y += LINE_HEIGHT
    return y


def origin(results: list[Result]) -> list[str]:
    """Return machines, versions and dates, one line each; all of them if benchmarks differ."""
    machines = [result["machine"] for result in results]
    devices = [f"{m['gpu']}, " if "gpu" in m else "" for m in machines]
    rest = [f"{m['processor']}, {m['cpus']} CPUs, {m['memory_gib']} GiB, {m['system']}" for m in machines]
    where = map("".join, zip(devices, rest, strict=True))
    versions = (", ".join(f"{package} {version}" for package, version in m["versions"].items()) for m in machines)
    commits = (f"commit {result['commit']}" for result in results if result["commit"])
    first, last = (result["date"][:16].replace("T", " ") for result in (results[0], results[-1]))
    lines = ("; ".join(dict.fromkeys(what)) for what in (where, versions, commits))
    return [*filter(None, lines), f"{first} to {last} UTC"]


def title(result: Result) -> str:
    return result["name"].replace("-", " ")


def rows(result: Result) -> list[Row]:
    return [Row(**row) for row in result["rows"]]


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
