"""What `progan models ...` does: show a store, say which versions serve, and remove old ones."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from progan_service import exit_codes
from progan_service.errors import ConfigError
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import BFLOAT16_SIGNATURE, ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import ModelStore

if TYPE_CHECKING:
    from progan_service.serving.models.servable import Servable

LATEST = "latest"


def list_models(arguments: argparse.Namespace) -> int:
    """A table of all versions, those whose files are damaged included."""
    store = ModelStore(arguments.store)
    rows: list[tuple[str, ...]] = [
        ("MODEL", "VERSION", "USE", "IMAGES", "LATENT", "LABELS", "EXPORTED", "DIGEST", "SOURCE")
    ]
    broken = []
    for name in store.models():
        verified = {version: _verified(store, name, version) for version in store.versions(name)}
        whole = {version: found for version, found in verified.items() if isinstance(found, ModelMetadata)}
        rollout, problem = _rollout(store, name)
        uses = _uses(rollout, list(whole))
        for version, found in verified.items():
            facts = _facts(found) if isinstance(found, ModelMetadata) else ("",) * 5 + ("broken",)
            rows.append((name, str(version), ", ".join(uses.get(version, ())), *facts))
        broken += [f"{name} version {v}: {found}" for v, found in verified.items() if v not in whole]
        broken += [f"{name}: {text}" for text in (problem, rollout.problem(verified)) if text]
    if len(rows) == 1:
        print(f"{arguments.store}: holds no models yet")
        return exit_codes.DONE
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(*broken, sep="\n", end="\n" if broken else "")
    return exit_codes.DONE


def verify(arguments: argparse.Namespace) -> int:
    """Every version as a server would try it: files by their digests, golden pictures by making them again.

    One that is good in float32 serves; what it lacks in bfloat16 is told.
    """
    from progan_service.host.tensorflow import import_tensorflow

    store = ModelStore(arguments.store)
    if arguments.model:
        store.require(arguments.model)
    import_tensorflow()
    from progan_service.serving.models.warm_up import load_servable

    broken = 0
    for name in [arguments.model] if arguments.model else store.models():
        for version in store.versions(name):
            try:
                servable = load_servable(store, name, version, batch_sizes=(1,))
            except ModelStoreError as error:
                print(f"{name} version {version}: broken: {error}")
                broken += 1
            else:
                problem = _bfloat16_problem(servable, store.path(name, version))
                print(f"{name} version {version}: {f'good in float32 alone: {problem}' if problem else 'good'}")
    return exit_codes.FAILED if broken else exit_codes.DONE


def _bfloat16_problem(servable: "Servable", path: Path) -> str:
    """Of a version that has that precision; empty without one."""
    from progan_service.serving.models.warm_up import check_golden

    if BFLOAT16_SIGNATURE not in servable.metadata.signatures:
        return ""
    try:
        check_golden(servable.in_bfloat16(), path)
    except ModelStoreError as error:
        return str(error)
    return ""


def pin(arguments: argparse.Namespace) -> int:
    """One version serves, whatever is newer."""
    store, model = ModelStore(arguments.store), arguments.model
    version = 0 if arguments.version == LATEST else _undamaged(store, model, arguments.version)
    store.set_rollout(model, replace(store.rollout(model), pinned=version))
    print(f"{model}: version {version} is to serve" if version else f"{model}: the newest good version is to serve")
    return exit_codes.DONE


def label(arguments: argparse.Namespace) -> int:
    """A version has a name by which requests can ask for it."""
    store, model = ModelStore(arguments.store), arguments.model
    rollout, version = store.rollout(model), _undamaged(store, model, arguments.version)
    store.set_rollout(model, replace(rollout, labels={**rollout.labels, arguments.label: version}))
    print(f"{model}: {arguments.label} is version {version}")
    return exit_codes.DONE


def unlabel(arguments: argparse.Namespace) -> int:
    store, model = ModelStore(arguments.store), arguments.model
    rollout = store.rollout(model)
    if arguments.label not in rollout.labels:
        known = ", ".join(sorted(rollout.labels)) or "none"
        raise ConfigError(f"model {model!r} has no version label {arguments.label!r}; it has: {known}")
    labels = {name: version for name, version in rollout.labels.items() if name != arguments.label}
    store.set_rollout(model, replace(rollout, labels=labels))
    print(f"{model}: {arguments.label} is no label any more")
    return exit_codes.DONE


def prune(arguments: argparse.Namespace) -> int:
    """Only the newest good versions stay, the pinned and the labelled."""
    if arguments.keep < 1:
        raise ConfigError(f"keep is {arguments.keep}: must be 1 or more")
    store = ModelStore(arguments.store)
    if arguments.model:
        store.require(arguments.model)
    for name in [arguments.model] if arguments.model else store.models():
        for version in store.superfluous(name, arguments.keep):
            if not arguments.dry_run:
                store.remove(name, version)
            print(f"{name} version {version}: {'would be removed' if arguments.dry_run else 'removed'}")
    if not arguments.dry_run and (abandoned := store.remove_abandoned()):
        print(f"{abandoned} half-written directories of ended processes: removed")
    return exit_codes.DONE


def _verified(store: ModelStore, name: str, version: int) -> ModelMetadata | ModelStoreError:
    try:
        return store.verify(name, version)
    except ModelStoreError as error:
        return error


def _uses(rollout: Rollout, whole: list[int]) -> dict[int, list[str]]:
    """What the versions of a model are for; `whole`, newest first, are those with undamaged files."""
    uses: dict[int, list[str]] = {}
    if rollout.pinned:
        uses[rollout.pinned] = ["pinned"]
    elif whole:
        uses[whole[0]] = [LATEST]
    for name, version in sorted(rollout.labels.items()):
        uses.setdefault(version, []).append(name)
    return uses


def _facts(metadata: ModelMetadata) -> tuple[str, ...]:
    size = f"{metadata.resolution}x{metadata.resolution}x{metadata.channels}"
    labels, exported = str(metadata.label_count or ""), str(metadata.provenance.get("exported_at", ""))[:10]
    return size, str(metadata.latent_size), labels, exported, metadata.digest[:19], metadata.source


def _rollout(store: ModelStore, name: str) -> tuple[Rollout, str]:
    try:
        return store.rollout(name), ""
    except ModelStoreError as error:
        return Rollout(), str(error)


def _undamaged(store: ModelStore, name: str, text: str) -> int:
    """The version of that number. Raises ConfigError or ModelStoreError when it is none, or cannot serve."""
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"version is {text!r}: must be a whole number from 1 on")
    store.require(name, int(text))
    store.verify(name, int(text))
    return int(text)
