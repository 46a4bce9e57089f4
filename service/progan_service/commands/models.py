"""`progan models`: list a store, choose which versions serve, remove old ones."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progan_service import exit_codes
from progan_service.commands.export import directory
from progan_service.commands.terminal import print_table
from progan_service.errors import ConfigError
from progan_service.names import printable
from progan_service.settings.manual import add_path
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.errors import ModelStoreError
from progan_service.store.metadata import BFLOAT16_SIGNATURE, ModelMetadata
from progan_service.store.rollout import Rollout
from progan_service.store.store import VERSION, ModelStore

if TYPE_CHECKING:
    from progan_service.serving.models.servable import Servable

LATEST = "latest"

_HEADINGS = ("MODEL", "VERSION", "USE", "IMAGES", "LATENT", "LABELS", "EXPORTED", "DIGEST", "SOURCE")

_STORE_HELP = "model store (default: the bundled models)"


def add_models(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "models",
        help="list the models of a store, choose what serves, remove old versions",
        description="List the models of a store, newest version first, with the use and source of each version. "
        "The commands change what serves; servers that poll the store follow within seconds.",
    )
    add_path(command, "--store", type=directory, default=BUNDLED_STORE, metavar="DIR", help=_STORE_HELP)
    command.set_defaults(run=lambda given: list_models(store=given.store))
    kinds = command.add_subparsers(title="commands", metavar="COMMAND")
    _add_verify(kinds)
    _add_pin(kinds)
    _add_label(kinds)
    _add_unlabel(kinds)
    _add_share(kinds)
    _add_default(kinds)
    _add_prune(kinds)


def list_models(*, store: Path) -> int:
    """Print a table of all versions, including those with damaged files, and then what is wrong."""
    models = ModelStore(store)
    rows: list[tuple[str, ...]] = []
    problems: list[str] = []
    chosen = _default(models)
    for name in models.models():
        verified = {version: _verified(models, name, version) for version in models.versions(name)}
        rollout, problem = _rollout(models, name)
        rows += _rows(f"{name} (default)" if name == chosen else name, verified, rollout)
        problems += [f"{name} version {v}: {found}" for v, found in verified.items() if isinstance(found, Exception)]
        problems += [f"{name}: {text}" for text in (problem, rollout.problem(verified)) if text]
    problems += filter(None, [models.default_problem()])
    if not rows:
        print(f"{store}: has no models yet")
        return exit_codes.DONE
    print_table([_HEADINGS, *rows])
    for problem in problems:
        print(printable(problem))
    return exit_codes.DONE


def _default(store: ModelStore) -> str:
    """Return the name of the default model; empty without one that can be read."""
    try:
        return store.default().model
    except ModelStoreError:
        return ""


def _rows(
    name: str, verified: Mapping[int, ModelMetadata | ModelStoreError], rollout: Rollout
) -> list[tuple[str, ...]]:
    """Return a row for each version of a model."""
    uses = _uses(rollout, [version for version, found in verified.items() if isinstance(found, ModelMetadata)])
    rows = []
    for version, found in verified.items():
        facts = _facts(found) if isinstance(found, ModelMetadata) else ("",) * 5 + ("broken",)
        rows.append((name, str(version), ", ".join(uses.get(version, ())), *facts))
    return rows


def _add_verify(kinds: Any) -> None:
    command = kinds.add_parser(
        "verify",
        help="test all versions in the way a server does",
        description="Compare files with their digests, and golden pictures with new ones of the same seeds. The exit "
        "code is 1 if a version is broken.",
    )
    # Without a default of its own the option keeps the value that was given before the command.
    add_path(command, "--store", type=directory, default=argparse.SUPPRESS, metavar="DIR", help=_STORE_HELP)
    command.add_argument("model", nargs="?", default="", metavar="MODEL", help="test only this model")
    command.set_defaults(run=lambda given: verify(store=given.store, model=given.model))


def verify(*, store: Path, model: str) -> int:
    """Test all versions of a store, or of one model, in the way a server does.

    A version that is good in float32 serves. A fault in bfloat16 is reported.
    """
    from progan_service.host.tensorflow import import_tensorflow

    models = ModelStore(store)
    if model:
        models.require(model)
    import_tensorflow()
    from progan_service.serving.models.warm_up import load_servable

    broken = 0
    for name in [model] if model else models.models():
        for version in models.versions(name):
            try:
                servable = load_servable(models, name, version, batch_sizes=(1,))
            except ModelStoreError as error:
                print(printable(f"{name} version {version}: broken: {error}"))
                broken += 1
            else:
                problem = _bfloat16_problem(servable, models.path(name, version))
                print(f"{name} version {version}: {f'good only in float32: {problem}' if problem else 'good'}")
    return exit_codes.FAILED if broken else exit_codes.DONE


def _bfloat16_problem(servable: "Servable", path: Path) -> str:
    """Return what is wrong with the version in bfloat16, "" if nothing is or it has no such signature."""
    from progan_service.serving.models.warm_up import check_golden

    if BFLOAT16_SIGNATURE not in servable.metadata.signatures:
        return ""
    try:
        check_golden(servable.in_bfloat16(), path)
    except ModelStoreError as error:
        return str(error)
    return ""


def _add_pin(kinds: Any) -> None:
    command = kinds.add_parser(
        "pin",
        help="choose the version that serves, for example to roll back",
        description="Let one version of a model serve even if there is a newer one. With `latest`, the newest good "
        "version serves again.",
    )
    _add_store_and_model(command)
    command.add_argument("version", metavar="VERSION", help="version number, or `latest`")
    command.set_defaults(run=lambda given: pin(store=given.store, model=given.model, version=given.version))


def pin(*, store: Path, model: str, version: str) -> int:
    """Let one version serve, or with "latest" the newest good one."""
    models = ModelStore(store)
    number = 0 if version == LATEST else _undamaged(models, model, version)
    models.set_rollout(model, replace(models.rollout(model), pinned=number))
    print(f"{model}: version {number} will serve" if number else f"{model}: the newest good version will serve")
    return exit_codes.DONE


def _add_label(kinds: Any) -> None:
    command = kinds.add_parser(
        "label",
        help="give a version a label that requests can use",
        description="Give a version a label, for example `canary`. Servers load it in addition to the serving version. "
        "It answers requests with the label.",
    )
    _add_store_and_model(command)
    command.add_argument("label", metavar="LABEL", help="for example `canary`")
    command.add_argument("version", metavar="VERSION", help="version number")
    command.set_defaults(
        run=lambda given: label(store=given.store, model=given.model, name=given.label, version=given.version)
    )


def label(*, store: Path, model: str, name: str, version: str) -> int:
    """Give a version a label. If another version has the label, it loses it."""
    models = ModelStore(store)
    rollout, number = models.rollout(model), _undamaged(models, model, version)
    models.set_rollout(model, replace(rollout, labels={**rollout.labels, name: number}))
    print(f"{model}: {name} is version {number}")
    return exit_codes.DONE


def _add_unlabel(kinds: Any) -> None:
    command = kinds.add_parser("unlabel", help="remove a label", description="Remove a label of a model.")
    _add_store_and_model(command)
    command.add_argument("label", metavar="LABEL", help="label to remove")
    command.set_defaults(run=lambda given: unlabel(store=given.store, model=given.model, name=given.label))


def unlabel(*, store: Path, model: str, name: str) -> int:
    """Remove a label."""
    models = ModelStore(store)
    models.set_rollout(model, _labelled(models, model, name).without(name))
    print(f"{model}: label {name} removed")
    return exit_codes.DONE


def _add_share(kinds: Any) -> None:
    command = kinds.add_parser(
        "share",
        help="give a share of the callers a labelled version",
        description="Let a labelled version answer the requests of some callers, where they name no version. A caller "
        "(its token, else its address) always gets the same one. All others get the version that serves.",
    )
    _add_store_and_model(command)
    command.add_argument("label", metavar="LABEL", help="for example `canary`")
    command.add_argument("percent", metavar="PERCENT", type=int, help="share of the callers, 0 to 100; 0 ends it")
    command.set_defaults(
        run=lambda given: share(store=given.store, model=given.model, name=given.label, percent=given.percent)
    )


def share(*, store: Path, model: str, name: str, percent: int) -> int:
    """Let the version with a label answer a share of the callers, or with 0 none."""
    models = ModelStore(store)
    rollout = _labelled(models, model, name)
    shares = {**rollout.shares, name: percent}
    models.set_rollout(model, replace(rollout, shares={label: share for label, share in shares.items() if share}))
    print(f"{model}: {percent} % of the callers get {name}, version {rollout.labels[name]}")
    return exit_codes.DONE


def _labelled(models: ModelStore, model: str, name: str) -> Rollout:
    """Return the rollout of a model. Raises ConfigError if it has no such label."""
    rollout = models.rollout(model)
    if name not in rollout.labels:
        known = ", ".join(sorted(rollout.labels)) or "none"
        raise ConfigError(f"model {model!r} has no version label {name!r}; it has: {known}")
    return rollout


def _add_default(kinds: Any) -> None:
    command = kinds.add_parser(
        "default",
        help="choose the model that answers requests which name none",
        description="Choose the model that answers requests which name none. Without this choice, that is the only "
        "model of a store; where there are several, requests must name one. The choice is in default.json in the "
        "store. To take it back, remove that file.",
    )
    _add_store_and_model(command)
    command.set_defaults(run=lambda given: default(store=given.store, model=given.model))


def default(*, store: Path, model: str) -> int:
    """Let a model answer requests that name none."""
    ModelStore(store).set_default(model)
    print(f"{model}: answers requests that name no model")
    return exit_codes.DONE


def _add_prune(kinds: Any) -> None:
    command = kinds.add_parser(
        "prune",
        help="remove old versions",
        description="Remove all versions except the newest undamaged ones, the pinned one and those with labels. "
        "Damaged versions that are newer stay, since they may still be in transfer. Also remove what killed "
        "processes left half-written more than a day ago.",
    )
    _add_store(command)
    command.add_argument("model", nargs="?", default="", metavar="MODEL", help="prune only this model")
    command.add_argument(
        "--keep", type=int, default=3, metavar="N", help="number of newest versions to keep (default: %(default)s)"
    )
    command.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    command.set_defaults(
        run=lambda given: prune(store=given.store, model=given.model, keep=given.keep, dry_run=given.dry_run)
    )


def prune(*, store: Path, model: str, keep: int, dry_run: bool) -> int:
    """Remove all versions except the newest good ones, the pinned one and those with labels."""
    if keep < 1:
        raise ConfigError(f"--keep is {keep}: must be 1 or more")
    models = ModelStore(store)
    if model:
        models.require(model)
    superfluous = [
        (name, version)
        for name in ([model] if model else models.models())
        for version in models.superfluous(name, keep)
    ]
    for name, version in superfluous:
        if not dry_run:
            models.remove(name, version)
        print(f"{name} version {version}: {'would be removed' if dry_run else 'removed'}")
    if not superfluous:
        print("no version to remove")
    if not dry_run and (abandoned := models.remove_abandoned()):
        print(f"removed what killed processes left half-written: {abandoned}")
    return exit_codes.DONE


def _add_store_and_model(command: argparse.ArgumentParser) -> None:
    _add_store(command)
    command.add_argument("model", metavar="MODEL", help="name of the model")


def _add_store(command: argparse.ArgumentParser) -> None:
    """Commands that change a store need its path: the bundled store does not change."""
    add_path(command, "--store", type=directory, required=True, metavar="DIR", help="model store")


def _verified(store: ModelStore, name: str, version: int) -> ModelMetadata | ModelStoreError:
    try:
        return store.verify(name, version)
    except ModelStoreError as error:
        return error


def _uses(rollout: Rollout, whole: list[int]) -> dict[int, list[str]]:
    """Return the uses of each version. `whole` contains the undamaged versions, newest first."""
    uses: dict[int, list[str]] = {}
    if rollout.pinned:
        uses[rollout.pinned] = ["pinned"]
    elif whole:
        uses[whole[0]] = [LATEST]
    for name, version in sorted(rollout.labels.items()):
        share = f" for {rollout.shares[name]} % of callers" if name in rollout.shares else ""
        uses.setdefault(version, []).append(name + share)
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
    """Return the number of a version. Raises ConfigError for other text, ModelStoreError if it cannot serve."""
    if not VERSION.fullmatch(text):
        raise ConfigError(f"version is {text!r}: must be a whole number from 1 on")
    store.require(name, int(text))
    store.verify(name, int(text))
    return int(text)
