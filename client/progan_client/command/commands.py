"""The commands of `progan-client`. Each takes the client and the parsed command line and returns an exit code."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progan_client.channel import Settings
from progan_client.client import Client
from progan_client.command.listing import model_lines, report_lines
from progan_client.command.output import Output, check_writable, checked_output
from progan_client.errors import ArgumentError
from progan_client.images import Encoding, encoded, encoding_of
from progan_client.load.drive import run_load
from progan_client.load.picture import latency_picture
from progan_client.load.plan import Load
from progan_client.load.report import as_json
from progan_client.requests import GenerateArguments, ImageArguments, generate_request, latents_message, row_count

MAX_IN_ONE_PICTURE = 10_000
MAX_IN_FLIGHT = 1_000  # default of an open loop
SUCCESS, FAILURE, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # exit codes


def generate(client: Client, args: argparse.Namespace) -> int:
    """Write images to one picture, or each to a file of its own."""
    output = _output(args, "image")
    if not output.each and (args.count or 1) > MAX_IN_ONE_PICTURE:
        raise ArgumentError("--count", f"must be at most {MAX_IN_ONE_PICTURE} for one picture; use -o DIR/", args.count)
    source = _source(args)
    one_image = row_count(latents_message(source)) == 1 and args.columns in (None, 1)
    arguments: GenerateArguments = {
        **source,
        **_image_arguments(client, args, *output.wire_format(unchanged=output.each or one_image)),
    }
    parts = client.stream(**arguments)
    if output.each:
        output.write_each(parts)
    else:
        output.write_grid(list(parts), args.columns)
    return SUCCESS


def interpolate(client: Client, args: argparse.Namespace) -> int:
    """Write a walk to one animation, or each frame to a file of its own."""
    output = _output(args, "frame", animated=True)
    frames = client.interpolate(
        latents=_latents(args.latents),
        seeds=args.seeds,
        frames_between=args.frames,
        path="linear" if args.linear else "spherical",
        loop=args.loop,
        **_image_arguments(client, args, *output.wire_format(unchanged=output.each)),
    )
    if output.each:
        output.write_each(frame.images for frame in frames)
    else:
        output.write_animation(list(frames), args.fps)
    return SUCCESS


def models(client: Client, args: argparse.Namespace) -> int:
    """Print all models of the service and their versions."""
    listed = ["\n".join(model_lines(model)) for model in client.models()]
    print("\n\n".join(listed) or f"{args.target} has no models")
    return SUCCESS


def health(client: Client, args: argparse.Namespace) -> int:
    """Print the health of the service or of one model; succeed only if it is ready."""
    if args.wait is not None:
        client.wait_until_ready(args.wait)
    state = client.health(args.model)
    print(f"{args.target}{f' {args.model}' if args.model else ''}: {state}")
    return SUCCESS if state == "SERVING" else FAILURE


def load(client: Client, args: argparse.Namespace) -> int:
    """Put load on the service and print the report; succeed if any call did."""
    if args.output:
        _ = encoding_of(args.output.suffix)
    for path in filter(None, (args.output, args.json)):
        check_writable(path)
    plan = _plan(args)
    request = generate_request(count=args.images, seed=0, **_image_arguments(client, args, args.format, quality=0))
    # The load has its own connections and deadlines.
    settings = Settings(args.target, Load.timeout_s, Load.timeout_s, args.tls, args.token)
    show = _show_progress if sys.stderr.isatty() else None
    report = run_load(plan, request, settings, show)
    print("\n".join(report_lines(report)))
    if args.json:
        args.json.write_text(json.dumps(as_json(report), indent=2) + "\n")
    if args.output:
        args.output.write_bytes(encoded(latency_picture(report), args.output.suffix))
    return SUCCESS if report.calls else FAILURE


def _plan(args: argparse.Namespace) -> Load:
    """Return the load; some defaults depend on other options."""
    clients = Load.clients if args.rate is None else MAX_IN_FLIGHT
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
    """Overwrite the previous line; an empty line only clears it."""
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _output(args: argparse.Namespace, stem: str, *, animated: bool = False) -> Output:
    return checked_output(
        args.output,
        stem=stem,
        each=args.each,
        file_format=args.format,
        quality=args.quality,
        scale=args.scale,
        animated=animated,
    )


def _source(args: argparse.Namespace) -> GenerateArguments:
    """Return the source of the latents; by default one image of a random seed."""
    nothing = args.seed is None and args.seeds is None and args.latents is None and args.count is None
    return {
        "latents": _latents(args.latents),
        "seeds": args.seeds,
        "count": 1 if nothing else args.count,
        "seed": args.seed,
    }


def _image_arguments(client: Client, args: argparse.Namespace, encoding: Encoding, quality: int) -> ImageArguments:
    return {
        "labels": _labels(client, args),
        "model": args.model,
        "version": args.version,
        "encoding": encoding,
        "quality": quality,
        "bulk": args.bulk,
    }


def _labels(client: Client, args: argparse.Namespace) -> ArrayLike | None:
    """Return the label vector of `--labels`, or that of the name in `--label`, for the version that is asked."""
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
        raise ArgumentError("--latents", "must be a .npy file with one array", str(path))
    return array[None] if array.ndim == 1 else array
