"""The commands of `progan-client`. Each takes the client and its options and returns an exit code."""

import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_client.arguments import GenerateArguments, ImageArguments, ModelArguments
from progan_client.channel import Settings
from progan_client.client import Client
from progan_client.command.listing import model_lines, report_lines
from progan_client.command.options import (
    Connection,
    EditOptions,
    EditPhotoOptions,
    GenerateOptions,
    HealthOptions,
    InterpolateOptions,
    InvertOptions,
    LoadOptions,
    ModelOptions,
    OutputOptions,
    SearchOptions,
    SheetOptions,
)
from progan_client.command.output import Output, check_writable, checked_output, checked_suffix, write
from progan_client.command.terminal import progress_cleared, say, show_progress
from progan_client.command.usage import UsageError, input_of, only_one, photos_named
from progan_client.errors import ArgumentError
from progan_client.images import ENCODING_OF_SUFFIX, Encoding, encoded
from progan_client.inversion import Inversion, InversionReport
from progan_client.load.drive import run_load
from progan_client.load.picture import latency_picture
from progan_client.load.plan import Load
from progan_client.load.report import as_json
from progan_client.pictures import MAX_PICTURES, shown_square
from progan_client.requests import edit_messages, generate_request, latents_message, row_count

MAX_IN_ONE_PICTURE = 10_000
MAX_IN_FLIGHT = 1_000  # default of an open loop
SUCCESS, FAILURE, WRONG_USAGE, INTERRUPTED, NOBODY_READS = 0, 1, 2, 130, 141  # exit codes; 128 + the signal


def generate(client: Client, options: GenerateOptions) -> int:
    """Write images to one picture, or each to a file of its own."""
    output = replace(_output(options, "image"), edited=bool(options.edit or options.sets))
    if not output.each and (options.count or 1) > MAX_IN_ONE_PICTURE:
        raise ArgumentError(
            "--count", f"must be at most {MAX_IN_ONE_PICTURE} for one picture; use -o DIR/", options.count
        )
    source = _source(options)
    one_image = row_count(latents_message(source)) == 1 and options.columns in (None, 1)
    arguments: GenerateArguments = {
        **source,
        **_edited(options, *output.wire_format(unchanged=output.each or one_image)),
    }
    parts = client.stream(**arguments)
    if output.each:
        output.write_each(parts)
    else:
        output.write_grid(list(parts), options.columns)
    return SUCCESS


def walk(client: Client, options: InterpolateOptions) -> int:
    """Write a walk to one animation, or each frame to a file of its own."""
    output = _output(options, "frame", animated=True)
    frames = client.interpolate(
        latents=_latents(options.latents),
        seeds=options.seeds,
        frames_between=options.frames,
        path="linear" if options.linear else "smooth" if options.smooth else "spherical",
        pace="even" if options.even else "uniform",
        loop=options.loop,
        **_edited(options, *output.wire_format(unchanged=output.each)),
    )
    if output.each:
        output.write_each(frame.images for frame in frames)
    else:
        output.write_animation(list(frames), options.fps)
    return SUCCESS


def sheet(client: Client, options: SheetOptions) -> int:
    """Write one picture with a row for each seed, moved along a direction from column to column."""
    output = _output(options, "sheet")
    if output.each:
        raise ArgumentError("--output", "must be a file: a sheet is one picture", options.output)
    name, amounts = options.edit
    latents = _latents(options.latents)
    seeds = (options.seeds or [0, 1, 2, 3]) if latents is None else None
    source: GenerateArguments = {"seeds": seeds, "latents": latents, "hold": options.hold or ()}
    arguments: GenerateArguments = {**source, **_model_arguments(options, "raw", quality=0)}
    columns = []
    for amount in amounts:
        arguments["edits"] = {name: amount}
        columns.append([part[i : i + 1] for part in client.stream(**arguments) for i in range(len(part))])
        arguments["version"] = columns[0][0].model.version  # of all columns, whatever is published meanwhile
    rows = [image for row in zip(*columns, strict=True) for image in row]
    replace(output, edited=True).write_grid(rows, len(amounts))
    return SUCCESS


def edit(client: Client, options: EditPhotoOptions) -> int:
    """Write the image of a photograph, edited."""
    output = replace(_output(options, "edited"), edited=True)
    if output.each:
        raise ArgumentError("--output", "must be a file: the edited image is one picture", options.output)
    if not options.edit and not options.sets:
        raise UsageError("give --edit or --set; to find the image alone, use `progan-client invert`")
    arguments = _edited(options, "raw", quality=0)
    _check_directions(client, options, arguments)
    (found,) = _found(client, [options.picture], options)
    arguments["version"] = found.images.model.version  # whatever is published meanwhile
    if found.labels is not None:
        arguments["labels"] = found.labels
    edited = client.generate(latents=found.latents, **arguments)
    if options.beside:
        _, side, _, channels = edited.shape
        photo = shown_square(options.picture, options.fit, side, channels)
        output.write_beside(photo, found.images, edited)
    else:
        output.write_grid([edited], columns=1)
    return SUCCESS


def _check_directions(client: Client, options: EditPhotoOptions, arguments: ImageArguments) -> None:
    """Raise ArgumentError for edits that would be refused after the search."""
    edit_messages(arguments)
    known = client.model(options.model).version(options.version).directions
    for option, names in (("--edit", arguments["edits"]), ("--set", arguments["sets"]), ("--hold", arguments["hold"])):
        for name in names or ():
            if name not in known:
                rule = f"must be one of {', '.join(known)}" if known else "needs a version with directions"
                raise ArgumentError(option, rule, name)


def invert(client: Client, options: InvertOptions) -> int:
    """Write the images whose latents are nearest to pictures, and the latents. An error loses none that were found."""
    output = _output(options, "found")
    if options.save_latents:
        checked_suffix(options.save_latents, [".npy"], option="--latents")
        check_writable(options.save_latents)
    found: list[Inversion] = []
    try:
        found.extend(_found(client, options.pictures, options))
    finally:
        if found:
            _write_found(found, output, options)
    return SUCCESS


def _write_found(found: list[Inversion], output: Output, options: InvertOptions) -> None:
    if options.save_latents:
        file = io.BytesIO()
        np.save(file, np.concatenate([each.latents for each in found]))
        write(options.save_latents, file.getvalue())
    if output.each:
        output.write_each(each.images for each in found)
    else:
        output.write_grid([each.images for each in found], options.columns)


def _found(client: Client, pictures: list[Path], options: SearchOptions) -> Iterator[Inversion]:
    """Yield the latents of pictures, as many as a call may have at a time, and say how near they are."""
    for start in range(0, len(pictures), MAX_PICTURES):
        paths = pictures[start : start + MAX_PICTURES]
        files = []
        for path in paths:
            with input_of("PHOTO", path):
                files.append(path.read_bytes())
        with photos_named(paths), progress_cleared():
            found = client.invert(
                files,
                progress=partial(_show_search, paths) if sys.stderr.isatty() else None,
                fit=options.fit,
                max_evaluations=options.max_evaluations,
                enough_db=options.enough,
                **_model_arguments(options, "raw", quality=0),
            )
        for place, path in enumerate(paths):
            say(f"{path}: {_search_line(found, place, options)}")
        yield found


def _search_line(found: Inversion, place: int, options: SearchOptions) -> str:
    line = f"found at {found.psnr_db[place]:.1f} dB after {found.evaluations[place]} evaluations"
    if found.labels is None or options.label or options.labels:
        return line
    return f"{line}, --labels {','.join(f'{value:.4g}' for value in found.labels[place])}"


def _show_search(paths: list[Path], report: InversionReport) -> None:
    show_progress(f"{paths[report.picture]}: {report.psnr_db:.1f} dB after {report.evaluations} evaluations")


def models(client: Client, options: Connection) -> int:
    """Print all models of the service and their versions."""
    listed = [line for model in client.models() for line in ("", *model_lines(model))]
    say(*listed[1:] or [f"{options.target} has no models"])
    return SUCCESS


def health(client: Client, options: HealthOptions) -> int:
    """Print the health of the service or of one model; succeed only if it is ready."""
    if options.wait is not None:
        client.wait_until_ready(options.wait)
    state = client.health(options.model)
    say(f"{options.target}{f' {options.model}' if options.model else ''}: {state}")
    return SUCCESS if state == "SERVING" else FAILURE


def load(client: Client, options: LoadOptions) -> int:
    """Put load on the service and print the report; succeed if any call did."""
    if options.output:
        checked_suffix(options.output, ENCODING_OF_SUFFIX)
    for path in filter(None, (options.output, options.json)):
        check_writable(path)
    plan = _plan(options)
    request = generate_request(count=options.images, seed=0, **_edited(options, options.format, quality=0))
    # The load has its own connections and deadlines.
    settings = Settings(
        options.target, Load.timeout_s, Load.timeout_s, options.tls, options.token, options.allow_plain_token
    )
    show = show_progress if sys.stderr.isatty() else None
    report = run_load(plan, request, settings, show)
    say(*report_lines(report))
    if options.json:
        write(options.json, (json.dumps(as_json(report), indent=2) + "\n").encode())
    if options.output:
        write(options.output, encoded(latency_picture(report), options.output.suffix))
    return SUCCESS if report.calls else FAILURE


def _plan(options: LoadOptions) -> Load:
    """Return the load. Some defaults depend on other options."""
    if options.even and options.rate is None:
        raise UsageError("--even needs --rate")
    clients = Load.clients if options.rate is None else MAX_IN_FLIGHT
    duration_s = Load.duration_s if options.calls is None else math.inf
    return Load(
        images=options.images,
        encoding=options.format,
        clients=clients if options.clients is None else options.clients,
        rate=options.rate,
        even=options.even,
        warmup_s=options.warmup,
        duration_s=duration_s if options.duration is None else options.duration,
        calls=options.calls,
        connections=options.connections,
        timeout_s=Load.timeout_s if options.timeout is None else options.timeout,
        retries=options.retries,
    )


def _output(options: OutputOptions, stem: str, *, animated: bool = False) -> Output:
    return checked_output(
        options.output,
        stem=stem,
        each=options.each,
        file_format=options.format,
        quality=options.quality,
        scale=options.scale,
        animated=animated,
    )


def _source(options: GenerateOptions) -> GenerateArguments:
    """Return the source of the latents; by default one image of a random seed."""
    only_one(seeds=options.seeds, latents=options.latents, count=options.count)
    nothing = options.seed is None and options.seeds is None and options.latents is None and options.count is None
    return {
        "latents": _latents(options.latents),
        "seeds": options.seeds,
        "count": 1 if nothing else options.count,
        "seed": options.seed,
    }


def _edited(options: EditOptions, encoding: Encoding, quality: int) -> ImageArguments:
    """Return the arguments of images that may be edited."""
    return {
        **_model_arguments(options, encoding, quality),
        "edits": _amounts("--edit", options.edit),
        "sets": _amounts("--set", options.sets),
        "hold": options.hold or (),
    }


def _model_arguments(options: ModelOptions, encoding: Encoding, quality: int) -> ModelArguments:
    return {
        "labels": options.labels if options.label is None else options.label,
        "model": options.model,
        "version": options.version,
        "encoding": encoding,
        "quality": quality,
        "bulk": options.bulk,
    }


def _amounts(option: str, given: list[tuple[str, float]] | None) -> dict[str, float]:
    """Return amounts by the names of directions. Raise ArgumentError for a name that is given twice."""
    amounts = dict(given or ())
    if len(amounts) < len(given or ()):
        raise ArgumentError(option, "names each direction once", ", ".join(name for name, _ in given or ()))
    return amounts


def _latents(path: Path | None) -> NDArray[Any] | None:
    if path is None:
        return None
    try:
        with input_of("--latents", path):
            array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError("--latents", "must be a .npy file of numbers", str(path)) from error
    if not isinstance(array, np.ndarray):
        raise ArgumentError("--latents", "must be a .npy file with one array", str(path))
    return array[None] if array.ndim == 1 else array
