"""What the commands of `progan-client` do; `cli` reads their arguments."""

import argparse
import errno
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progan_client import codec
from progan_client.animation import animation_format, save_animation
from progan_client.channel import Settings
from progan_client.client import Client
from progan_client.errors import ArgumentError
from progan_client.images import (
    DEFAULT_QUALITY,
    GeneratedImages,
    encoded,
    encoding_of,
    enlarged,
    image_grid,
    numbered,
    to_image,
)
from progan_client.listing import model_lines
from progan_client.load import run_load
from progan_client.load_picture import latency_picture
from progan_client.load_plan import Load
from progan_client.load_report import as_json, report_lines
from progan_client.models import ServedModel

MAX_IN_ONE_PICTURE = 10_000
MOST_IN_FLIGHT = 1_000  # of a load that does not wait for answers
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes


def generate(client: Client, args: argparse.Namespace) -> int:
    """Images in one picture, or each in a file of its own."""
    path, each = _destination(args, folder_stem="image")
    if not each and (args.count or 1) > MAX_IN_ONE_PICTURE:
        raise ArgumentError(
            "--count", f"must be at most {MAX_IN_ONE_PICTURE} in one picture; FOLDER/ takes any number", args.count
        )
    quality = _quality(args, path)
    source = _source(args)
    parts = client.stream(
        **source,
        labels=_labels(client, args),
        model=args.model,
        version=args.version,
        **_transport(args, path, quality, as_files=each or (_is_one(source) and args.columns in (None, 1))),
    )
    if each:
        _write_each(parts, path, args.scale, quality)
    else:
        _write_grid(list(parts), path, args.columns, args.scale, quality)
    return DONE


def interpolate(client: Client, args: argparse.Namespace) -> int:
    """A walk as one moving picture, or each frame in a file of its own."""
    path, each = _destination(args, folder_stem="frame", moving=True)
    quality = _quality(args, path)
    frames = client.interpolate(
        latents=_latents(args.latents),
        seeds=args.seeds,
        frames_between=args.frames,
        path="linear" if args.linear else "spherical",
        loop=args.loop,
        labels=_labels(client, args),
        model=args.model,
        version=args.version,
        **_transport(args, path, quality, as_files=each),
    )
    if each:
        _write_each((frame.images for frame in frames), path, args.scale, quality)
        return DONE
    walk = list(frames)
    save_animation(walk, path, fps=args.fps, scale=args.scale, quality=quality)
    height, width, _ = walk[0].pixels.shape
    size = f"{width * args.scale}x{height * args.scale}"
    _tell(path, f"{len(walk)} frames of {size} pixels, {len(walk) / args.fps:.3g} s", walk[0].images.model)
    return DONE


def models(client: Client, args: argparse.Namespace) -> int:
    """Every model of the service and its versions."""
    listed = ["\n".join(model_lines(model)) for model in client.models()]
    print("\n\n".join(listed) or f"{args.target} has no models")
    return DONE


def health(client: Client, args: argparse.Namespace) -> int:
    """Whether the service or one model is ready; exit code 0 only then."""
    if args.wait is not None:
        client.wait_until_ready(args.wait)
    state = client.health(args.model)
    print(f"{args.target}{f' {args.model}' if args.model else ''}: {state}")
    return DONE if state == "SERVING" else FAILED


def load(client: Client, settings: Settings, args: argparse.Namespace) -> int:
    """Put load on the service and tell how it went; exit code 0 when any call was answered."""
    if args.output:
        _ = encoding_of(args.output.suffix)
    for path in filter(None, (args.output, args.json)):
        _check_writable(path)
    plan = _plan(args)
    labels = _labels(client, args)
    request = codec.generate_request(
        None, None, args.images, 0, labels, args.model, args.version, args.format, 0, args.bulk
    )
    report = run_load(plan, request, settings, tell=_show_progress if sys.stderr.isatty() else None)
    print("\n".join(report_lines(report)))
    if args.json:
        args.json.write_text(json.dumps(as_json(report), indent=2) + "\n")
    if args.output:
        args.output.write_bytes(encoded(latency_picture(report), args.output.suffix))
    return DONE if report.calls else FAILED


def _plan(args: argparse.Namespace) -> Load:
    """What is left out depends on what is given: a rate, or a number of calls."""
    clients = Load.clients if args.rate is None else MOST_IN_FLIGHT
    duration_s = Load.duration_s if args.calls is None else math.inf
    return Load(
        images=args.images,
        encoding=args.format,
        clients=clients if args.clients is None else args.clients,
        rate=args.rate,
        even=args.even,
        warmup_s=args.warmup,
        duration_s=duration_s if args.duration is None else args.duration,
        calls=args.calls,
        connections=args.connections,
        timeout_s=Load.timeout_s if args.timeout is None else args.timeout,
        retries=args.retries,
    )


def _show_progress(line: str) -> None:
    """Over the line before; an empty one leaves nothing."""
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _source(args: argparse.Namespace) -> dict[str, Any]:
    """The one source of latents among the arguments of `Client.stream`; with none given, one random image."""
    nothing = args.seed is None and args.seeds is None and args.latents is None and args.count is None
    return {
        "latents": _latents(args.latents),
        "seeds": args.seeds,
        "count": 1 if nothing else args.count,
        "seed": args.seed,
    }


def _is_one(source: dict[str, Any]) -> bool:
    """Whether one image is asked for."""
    given = source["seeds"] if source["latents"] is None else source["latents"]
    return source["count"] in (None, 1) if given is None else np.shape(given)[:1] == (1,)


def _transport(args: argparse.Namespace, path: Path, quality: int, *, as_files: bool) -> dict[str, Any]:
    """How a call travels: pictures to draw on as pixels, others as the files to be written."""
    encoding = encoding_of(path.suffix) if as_files and args.scale == 1 else "raw"
    return {"encoding": encoding, "quality": 0 if encoding in ("raw", "png") else quality, "bulk": args.bulk}


def _labels(client: Client, args: argparse.Namespace) -> ArrayLike | None:
    """The label vector given, or that of the label named, as the model version has it that will answer."""
    if args.label is None:
        given: ArrayLike | None = args.labels
        return given
    return client.model(args.model).version(args.version).one_hot(args.label)


def _latents(path: Path | None) -> NDArray[Any] | None:
    if path is None:
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError("--latents", "must be a .npy file of numbers", str(path)) from error
    if not isinstance(array, np.ndarray):
        raise ArgumentError("--latents", "must be a .npy file, one array", str(path))
    return array[None] if array.ndim == 1 else array


def _destination(args: argparse.Namespace, *, folder_stem: str, moving: bool = False) -> tuple[Path, bool]:
    """The path to write to, and whether each image has a file of its own; OSError when nothing can be written there.

    Found before the call is made, so that no work is done in vain.
    """
    path = Path(args.output)
    if args.output.endswith(("/", os.sep)) or path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path, each = path / f"{folder_stem}.{args.format or 'png'}", True
    elif args.format is not None:
        raise ArgumentError("--format", "is for -o FOLDER/, a file's suffix is its own", args.format)
    else:
        each = args.each
    try:
        _ = animation_format(path) if moving and not each else encoding_of(path.suffix)
    except ArgumentError as error:
        raise ArgumentError("--output", f"{error.rule}, or end in / for a folder", args.output) from error
    _check_writable(numbered(path, 0) if each else path)
    return path, each


def _check_writable(path: Path) -> None:
    """OSError when the file cannot be written; found before the call is made, so that no work is done in vain."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "not allowed to write there", str(path))


def _quality(args: argparse.Namespace, path: Path) -> int:
    if args.quality is None:
        return DEFAULT_QUALITY
    if path.suffix.lower() in (".png", ".gif"):
        raise ArgumentError("--quality", "is for JPEG and WebP", args.quality)
    return int(args.quality)


def _write_each(parts: Iterable[GeneratedImages], path: Path, scale: int, quality: int) -> None:
    """Each image to its own numbered file, as it comes."""
    count = 0
    seeds: list[int] = []
    for part in parts:
        seeds += part.seeds or ()
        for index in range(len(part)):
            file = numbered(path, count)
            if scale == 1:
                file.write_bytes(part.file(index, path.suffix, quality=quality))
            else:
                file.write_bytes(encoded(to_image(enlarged(part.pixels[index], scale)), path.suffix, quality))
            count += 1
    last = f" to {numbered(path, count - 1).name}" if count > 1 else ""
    size = f"{part.shape[2] * scale}x{part.shape[1] * scale}"
    _tell(f"{numbered(path, 0)}{last}", f"{_images(count)}{_of_seeds(seeds)}, {size} pixels", part.model)


def _write_grid(parts: list[GeneratedImages], path: Path, columns: int | None, scale: int, quality: int) -> None:
    """All images to one picture; one that came as a file is written as it came."""
    pixels = np.concatenate([part.pixels for part in parts])
    picture = image_grid(pixels, columns, scale)
    path.write_bytes(parts[0].files[0] if parts[0].files else encoded(picture, path.suffix, quality))
    seeds = [seed for part in parts for seed in part.seeds or ()]
    size = f"{picture.width}x{picture.height}"
    _tell(path, f"{_images(len(pixels))}{_of_seeds(seeds)}, {size} pixels", parts[0].model)


def _tell(path: Path | str, what: str, model: ServedModel) -> None:
    print(f"{path}: {what}, {model.name} version {model.version}")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _of_seeds(seeds: list[int]) -> str:
    """[5] -> " of seed 5", [5, 6, 7] -> " of seeds 5 to 7", [5, 9] -> " of seeds 5,9", [] -> ""."""
    if not seeds:
        return ""
    if len(seeds) == 1:
        return f" of seed {seeds[0]}"
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f" of seeds {seeds[0]} to {seeds[-1]}"
    return f" of seeds {','.join(str(seed) for seed in seeds)}"
