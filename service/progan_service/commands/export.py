"""`progan export` and `progan weights`."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.commands.terminal import progress_bars
from progan_service.errors import ConfigError
from progan_service.host.files import temporary_directory
from progan_service.host.tensorflow import import_tensorflow
from progan_service.names import escaped
from progan_service.settings.kind import path
from progan_service.settings.manual import add_path
from progan_service.training.workers import Workers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from progan_service.export.exportable import Exportable
    from progan_service.export.trained import TrainedGenerator
    from progan_service.store.metadata import ModelMetadata
    from progan_service.store.store import ModelStore


def directory(text: str) -> Path:
    """Read the path of a store from the command line."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"must be a directory (only `progan serve` reads URLs); got {text!r}")
    return path(text)


def add_export(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "export",
        help="make a generator servable: from a run, a weights file, NVIDIA, PyTorch, TF Hub or an earlier version",
        description="Publish a generator as the next version of a model. From a run, this is the averaged generator of "
        "the newest checkpoint. RUN/snapshots contains those of earlier ticks. Of several workers "
        "(TF_CONFIG), only the first exports: all may run this command after `progan train`.",
    )
    _add_source(command)
    add_path(
        command,
        "--store",
        type=directory,
        required=True,
        metavar="DIR",
        help="model store; created if it does not exist",
    )
    command.add_argument("--name", required=True, help="name of the model")
    command.add_argument(
        "--version-label",
        default="",
        metavar="LABEL",
        help="label for the new version, by which requests can ask for it, for example `canary`",
    )
    command.add_argument(
        "--no-serve",
        dest="serve",
        action="store_false",
        help="let the version that serves go on serving: pin it, as `progan models pin` does",
    )
    command.add_argument(
        "--best",
        action="store_true",
        help="of a run that was trained with --metric-images: the snapshot with the best SWD, in place of the newest "
        "checkpoint",
    )
    command.add_argument(
        "--discriminator",
        action="store_true",
        help="of a run: put its discriminator into the version, too, so that others can train on from there "
        "(`progan train --init`); servers do not read it",
    )
    command.add_argument(
        "--no-invert",
        dest="invert",
        action="store_false",
        help="leave out what servers need to find the latents of pictures (`progan-client invert`). It takes up to two "
        "minutes to make",
    )
    command.add_argument(
        "--no-tune",
        dest="tune",
        action="store_false",
        help="do not look for the fastest algorithms on the CPUs of this machine, for example when another one will "
        "serve; the version can be exported again there: `progan export STORE/MODEL/VERSION`",
    )
    command.set_defaults(
        run=lambda given: export(
            source=given.source,
            best=given.best,
            discriminator=given.discriminator,
            store=given.store,
            name=given.name,
            sha256=given.sha256,
            value_range=given.value_range,
            version_label=given.version_label,
            serve=given.serve,
            invert=given.invert,
            tune=given.tune,
            tf_config=os.environ.get("TF_CONFIG"),
        )
    )


def export(
    *,
    source: str,
    best: bool,
    discriminator: bool,
    store: Path,
    name: str,
    sha256: str,
    value_range: str,
    version_label: str,
    serve: bool,
    invert: bool,
    tune: bool,
    tf_config: str | None = None,
) -> int:
    """Publish a generator as the next version of a model, and print what is known about it.

    tf_config   the cluster and the place of this worker in it, as for `train`: only the first worker exports
    """
    if tf_config and not Workers.from_json(tf_config).chief:
        print("nothing to do: the first worker exports")
        return exit_codes.DONE
    from progan_service.store.model_name import check_model_name
    from progan_service.store.store import ModelStore

    check_model_name(name)
    if discriminator and best:
        raise ConfigError(
            "--discriminator: a snapshot has none: leave out --best to take both of the newest checkpoint"
        )
    ModelStore(store, check=store.exists()).check_rollout(name, label=version_label, serve=serve)
    import_tensorflow()
    from progan_service.export.exportable import Exportable
    from progan_service.export.version import export_version

    opponent = _discriminator(Path(source)) if discriminator else None
    if best:
        source = _best(Path(source))
    with _opened(source, sha256, value_range) as generator, progress_bars() as progress:
        if isinstance(generator, Exportable):
            exportable = generator
        else:
            exportable = Exportable.of(generator, tune=tune, progress=progress)
        store.mkdir(parents=True, exist_ok=True)
        models = ModelStore(store)
        before = models.serving(name)
        version = export_version(
            exportable,
            models,
            name,
            discriminator=opponent,
            kept=_kept(Path(source)),
            label=version_label,
            serve=serve,
            invert=invert,
            progress=progress,
        )
    _print_version(models, name, version)
    print_rollout(models, name, before, version)
    if version == 1 and (problem := models.default_problem()):
        print(f"progan: warning: {problem}", file=sys.stderr)
    return exit_codes.DONE


def _discriminator(run: Path) -> "Mapping[str, NDArray[np.generic]]":
    from progan_service.sources.run import networks_of_run
    from progan_service.training.run.directory import CONFIG_FILE, why_no_run

    if not (run / CONFIG_FILE).is_file():
        raise ConfigError(f"{run}: {why_no_run(run)}; --discriminator takes that of a run")
    return networks_of_run(run)


def _kept(source: Path) -> list[Path]:
    """Return the files of a version that belong to its network, however it is exported; none of another source."""
    from progan_service.export.discriminator import DISCRIMINATOR_FILE
    from progan_service.store.directions import DIRECTIONS_FILE
    from progan_service.store.metadata import METADATA_FILE

    files = [source / name for name in (DIRECTIONS_FILE, DISCRIMINATOR_FILE)]
    return [file for file in files if file.is_file()] if (source / METADATA_FILE).is_file() else []


def _best(run: Path) -> str:
    """Return the best snapshot of a run, and print why it is."""
    from progan_service.sources.best import best_snapshot

    best = best_snapshot(run)
    size = f"{best.resolution}x{best.resolution}"
    print(f"{best.path}: the best SWD, {best.swd:.2f}, of the snapshots of {size} with SWD: {best.count}")
    return str(best.path)


def _print_version(models: "ModelStore", name: str, version: int) -> None:
    metadata = models.metadata(name, version)
    size = f"{metadata.resolution}x{metadata.resolution}"
    print(f"{models.path(name, version)}: {name} version {version}, {size}, from {metadata.source}")
    for about in ("form", "reason", "value_range", "value_range_reason", "sha256", "ignored_arguments", "assumed"):
        if found := metadata.provenance.get(about):
            text = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
            print(f"  {about.replace('_', ' ')}: {escaped(text)}")
    if metadata.license:
        print(f"  license: {metadata.license.splitlines()[0]}")
    for signature, algorithms in metadata.algorithms.items():
        print(f"  {signature}: {'; '.join(f'{layer} {algorithm}' for layer, algorithm in algorithms.items())}")


def print_rollout(models: "ModelStore", name: str, before: int, version: int) -> None:
    """Say what the new version is used for, and warn if what answers requests changes its sizes or labels."""
    rollout = models.rollout(name)
    for label in sorted(label for label, labelled in rollout.labels.items() if labelled == version):
        print(f"  label: {label}")
    if rollout.pinned not in (0, version):
        print(
            f"  version {rollout.pinned} is pinned and goes on serving; to let this one serve: "
            f"progan models pin {name} {version} --store {models.root}"
        )
    elif before and (differences := _differences(models.metadata(name, before), models.metadata(name, version))):
        print(
            f"progan: warning: {name} version {version} takes over from version {before} and differs from it: "
            f"{'; '.join(differences)}. To go back: progan models pin {name} {before} --store {models.root}",
            file=sys.stderr,
        )


def _differences(before: "ModelMetadata", now: "ModelMetadata") -> list[str]:
    """Return what callers will notice: other sizes of images and latents, and other labels."""

    def facts(of: "ModelMetadata") -> dict[str, str]:
        images = f"{of.resolution}x{of.resolution}x{of.channels}"
        labels = f"{of.label_count} {of.label_kind}" if of.label_count else "0"
        return {"images": images, "latents": str(of.latent_size), "labels": labels}

    new, old = facts(now), facts(before)
    found = [f"{what} {new[what]}, not {old[what]}" for what in new if new[what] != old[what]]
    if now.label_count == before.label_count and now.label_names != before.label_names:
        found.append("other names of labels")
    return found


def add_weights(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "weights",
        help="write the weights of a generator to a file",
        description="Write the weights and the description of a generator to a file that any program can read and that "
        "cannot contain code: float32 arrays by layer path, and one JSON text.",
    )
    _add_source(command)
    add_path(command, "out", metavar="OUT", help="new file; its name ends with .safetensors or .npz")
    command.set_defaults(
        run=lambda given: weights(
            source=given.source, out=given.out, sha256=given.sha256, value_range=given.value_range
        )
    )


def weights(*, source: str, out: Path, sha256: str, value_range: str) -> int:
    """Write the weights of a generator to a new file."""
    if out.exists():
        raise ConfigError(f"{out}: already exists: give the name of a new file")
    import_tensorflow()
    from progan_service.export.trained import TrainedGenerator
    from progan_service.export.weights_file import check_weights_name, save_weights

    check_weights_name(out)
    with _opened(source, sha256, value_range) as generator:
        if not isinstance(generator, TrainedGenerator):
            reason = generator.provenance.get("reason")
            raise ConfigError(f"{source}: its weights do not fit a ProGAN generator of this program: {reason}")
        save_weights(generator, out)
    print(f"{out}: weights of {source}, {generator.resolution}x{generator.resolution}")
    return exit_codes.DONE


def _add_source(command: argparse.ArgumentParser) -> None:
    add_path(
        command,
        "source",
        type=str,
        metavar="SOURCE",
        help="run directory of `progan train`; weights file (.safetensors, .npz); NVIDIA's pickle (.pkl) or PyTorch "
        "checkpoint of genforce or pytorch_GAN_zoo (.pth, .pt), read without running code in it; or TF Hub module: "
        "https://tfhub.dev/..., its Kaggle address, a .tar.gz or a directory; or a version STORE/MODEL/VERSION",
    )
    command.add_argument(
        "--sha256",
        default="",
        metavar="HEX",
        help="refuse any other content: SHA-256 of a file, or of a TF Hub module as export prints it",
    )
    command.add_argument(
        "--value-range",
        choices=("unit", "signed"),
        default="",
        help="range of the images that a TF Hub module gives: `unit`, 0..1, or `signed`, -1..1 (default: what its "
        "graph or its images show)",
    )


@contextmanager
def _opened(source: str, sha256: str, value_range: str) -> "Iterator[TrainedGenerator | Exportable]":
    from progan_service.sources.source import open_source

    with temporary_directory() as staging, progress_bars(transient=True) as progress:

        def in_megabytes(stage: str, done: int, total: int) -> None:
            progress(f"{stage}, MB", done // 10**6, total // 10**6)

        yield open_source(source, staging, sha256=sha256, value_range=value_range, progress=in_megabytes)
