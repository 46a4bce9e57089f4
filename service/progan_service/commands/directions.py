"""`progan directions`: find directions in the latent space of a version, and publish it with them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from progan_service import exit_codes
from progan_service.commands.export import directory, print_rollout
from progan_service.commands.terminal import print_table, progress_bars
from progan_service.errors import ConfigError
from progan_service.evaluation.directions import (
    MEASURED_SEEDS,
    Fit,
    Pictures,
    discover,
    fit,
    nearly_one,
    score_seeds,
)
from progan_service.evaluation.scores import LEAST_ROWS, Scores, read_scores
from progan_service.evaluation.sheet import sheet
from progan_service.host.files import content, replaced
from progan_service.host.functions import load_function
from progan_service.host.tensorflow import import_tensorflow
from progan_service.latents.seeds import seed_range
from progan_service.settings.manual import add_path
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.directions import MAX_DIRECTIONS, NAME, NAME_RULE, Direction
from progan_service.store.store import ModelStore

LEAST_R = 0.7  # of a direction that does what its name says
NEARLY_ONE = 0.85  # cosine; with more, one cannot be held while the other moves

_SHEET_SEEDS = 4


class Base:
    """The version that directions are found in: the one that serves."""

    def __init__(self, store: Path, model: str) -> None:
        """Raises ModelStoreError for an unknown model, ConfigError when none of its versions is good."""
        self.store, self.model = ModelStore(store), model
        self.store.require(model)
        self.version = self.store.serving(model)
        if not self.version:
            raise ConfigError(f"{store}: model {model!r} has no good version; see `progan models verify`")
        self.directions = self.store.directions(model, self.version)

    def pictures(self) -> Pictures:
        """Return what makes images of the version. Imports TensorFlow."""
        import_tensorflow()
        from progan_service.sources.fakes import Fakes

        fakes = Fakes.open(self.store.path(self.model, self.version))
        return Pictures(self.store.metadata(self.model, self.version), fakes.draw)

    def publish(self, directions: Iterable[Direction]) -> None:
        """Publish the version once more, with these directions."""
        found = list(directions)
        version = self.store.publish_directions(self.model, self.version, found)
        names = ", ".join(direction.name for direction in found)
        path = self.store.path(self.model, version)
        print(f"{path}: {self.model} version {version} is version {self.version} with the directions {names}")
        print_rollout(self.store, self.model, self.version, version)

    def with_others(self, directions: Sequence[Direction]) -> list[Direction]:
        """Return the directions that the version has, those of the same names replaced, and the new ones."""
        return list({**self.directions, **{direction.name: direction for direction in directions}}.values())


def add_directions(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "directions",
        help="find directions in latent space along which images can be edited",
        description="Find directions in the latent space of the version that serves, along which requests can edit "
        "images: `progan-client generate --edit size=+1.5`. They are published as the next version of the model, which "
        "shares all other files with the one before.",
    )
    kinds = command.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_discover(kinds)
    _add_fit(kinds)
    _add_score(kinds)
    _add_show(kinds)
    _add_rename(kinds)


def _add_discover(kinds: Any) -> None:
    command = kinds.add_parser(
        "discover",
        help="publish the directions along which images change most",
        description="Find the directions along which images change most, and publish them as axis-1, axis-2, ... Look "
        "at their sheets, and name those that mean something with `rename`.",
    )
    _add_version(command, changes=True)
    command.add_argument(
        "--count", type=int, default=8, metavar="N", help="number of directions (default: %(default)s)"
    )
    _add_samples(command, 4096)
    _add_sheets(command)
    command.set_defaults(
        run=lambda given: discover_directions(
            store=given.store, model=given.model, count=given.count, samples=given.samples, sheets=given.sheets
        )
    )


def discover_directions(*, store: Path, model: str, count: int, samples: int, sheets: Path | None) -> int:
    """Publish the directions along which images change most."""
    base = Base(store, model)
    size = base.store.metadata(model, base.version).latent_size
    most = min(MAX_DIRECTIONS, size)
    if not 1 <= count <= most:
        raise ConfigError(f"--count is {count}: must be 1 to {most}")
    _check_samples(samples)
    pictures = base.pictures()
    with progress_bars(transient=True) as progress:
        found = discover(pictures, samples, count, progress)
    _write_sheets(pictures, found, sheets)
    base.publish(base.with_others(found))
    return exit_codes.DONE


def _add_fit(kinds: Any) -> None:
    command = kinds.add_parser(
        "fit",
        help="publish directions that are fitted to scores of images",
        description="Fit a direction to each score of a CSV, or of a scorer. Print how well each foretells scores "
        "that it has not seen (r), for how many of ten seeds the score rises with every step from -3 to 3, and what "
        f"else changes. Publish those with r of {LEAST_R} or more.",
    )
    _add_version(command, changes=True)
    source = command.add_mutually_exclusive_group(required=True)
    add_path(
        source, "--scores", metavar="FILE.csv", help="columns seed,NAME,...; some 2000 rows, 1 and 0 for yes and no"
    )
    _add_scorer(source)
    _add_samples(command, 2000)
    command.add_argument("--force", action="store_true", help=f"publish directions with r below {LEAST_R}, too")
    _add_sheets(command)
    command.set_defaults(
        run=lambda given: fit_directions(
            store=given.store,
            model=given.model,
            scores=given.scores,
            scorer=given.scorer,
            samples=given.samples,
            force=given.force,
            sheets=given.sheets,
        )
    )


def fit_directions(
    *, store: Path, model: str, scores: Path | None, scorer: str | None, samples: int, force: bool, sheets: Path | None
) -> int:
    """Publish directions that are fitted to scores of images."""
    base = Base(store, model)
    asked = None if scorer is None else load_function("--scorer", scorer)
    read = None if scores is None else read_scores(scores, content(scores))
    _check_samples(samples)
    pictures = base.pictures()
    with progress_bars(transient=True) as progress:
        if read is None:
            assert asked
            read = score_seeds(pictures, seed_range(0, samples), asked, progress)
        found = fit(pictures, read, asked)
    _print_fit(found)
    _write_sheets(pictures, found.directions, sheets)
    chosen = [direction for direction in found.directions if force or (direction.r or 0) >= LEAST_R]
    if weak := [direction for direction in found.directions if direction not in chosen]:
        named = ", ".join(f"{direction.name} (r {direction.r:.3f})" for direction in weak)
        reason = f"a direction with r below {LEAST_R} often moves something else"
        if not chosen:
            raise ConfigError(f"{named}: {reason}: score more seeds, or publish it with --force")
        print(f"left out: {named}: {reason}; --force publishes it, too")
    base.publish(base.with_others(chosen))
    _print_nearly_one(base.with_others(chosen))
    return exit_codes.DONE


def _print_fit(found: Fit) -> None:
    """Print a row for each direction, and what it moves from -2 to 2."""
    names = found.scores.names
    rows = [("DIRECTION", "R", "RISES", *(name.upper() for name in names))]
    for place, direction in enumerate(found.directions):
        share = direction.monotone
        rises = "-" if share is None else f"{round(share * len(MEASURED_SEEDS))} of {len(MEASURED_SEEDS)}"
        rows.append((direction.name, f"{direction.r:.2f}", rises, *(f"{shift:+.2f}" for shift in found.shifts[place])))
    print_table(rows)
    measured = "by the regression" if found.monotone is None else f"mean of {len(MEASURED_SEEDS)} seeds"
    print(f"right: how much each score changes from -2 to +2, in its standard deviations ({measured})")


def _print_nearly_one(directions: Sequence[Direction]) -> None:
    for one, other, cosine in nearly_one(directions, NEARLY_ONE):
        print(f"{one} and {other} are nearly one direction (cosine {cosine:.2f}): neither can be held for the other")


def _add_score(kinds: Any) -> None:
    command = kinds.add_parser(
        "score",
        help="write the scores of images of many seeds to a CSV",
        description="Let a Python function score the images of the seeds 0, 1, 2, ... and write a CSV for `fit`. The "
        "classes of a model take turns; attributes are 0.",
    )
    _add_version(command, changes=False)
    _add_scorer(command, required=True)
    _add_samples(command, 2000)
    add_path(command, "out", metavar="OUT.csv", help="file to write")
    command.set_defaults(
        run=lambda given: score(
            store=given.store, model=given.model, scorer=given.scorer, samples=given.samples, out=given.out
        )
    )


def score(*, store: Path, model: str, scorer: str, samples: int, out: Path) -> int:
    """Write the scores of the images of seeds to a CSV."""
    base, asked = Base(store, model), load_function("--scorer", scorer)
    _check_samples(samples)
    with progress_bars(transient=True) as progress:
        scores: Scores = score_seeds(base.pictures(), seed_range(0, samples), asked, progress)
    with replaced(out) as partial:
        partial.write_text(scores.to_csv())
    print(f"{out}: {', '.join(scores.names)} of {samples} seeds, {model} version {base.version}")
    return exit_codes.DONE


def _add_show(kinds: Any) -> None:
    command = kinds.add_parser(
        "show",
        help="list the directions of the version that serves",
        description="List the directions of the version that serves; --sheets draws what they do.",
    )
    _add_version(command, changes=False)
    _add_sheets(command)
    command.set_defaults(run=lambda given: show(store=given.store, model=given.model, sheets=given.sheets))


def show(*, store: Path, model: str, sheets: Path | None) -> int:
    """List the directions of the version that serves."""
    base = Base(store, model)
    directions = list(base.directions.values())
    if not directions:
        print(f"{model} version {base.version}: has no directions")
        return exit_codes.DONE
    print(f"{model} version {base.version}")
    print_table([("DIRECTION", "ORIGIN", "SAMPLES", "R", "RISES", "SHIFT"), *map(_shown, directions)])
    _print_nearly_one(directions)
    if sheets:
        _write_sheets(base.pictures(), directions, sheets)
    return exit_codes.DONE


def _shown(direction: Direction) -> tuple[str, ...]:
    figures = (direction.r, direction.monotone, direction.shift_sd)
    cells = ("-" if figure is None else f"{figure:.2f}" for figure in figures)
    return (direction.name, direction.origin, str(direction.samples or "-"), *cells)


def _add_rename(kinds: Any) -> None:
    command = kinds.add_parser(
        "rename",
        help="give a direction another name",
        description="Publish the version that serves once more, with another name for a direction.",
    )
    _add_version(command, changes=True)
    command.add_argument("old", metavar="OLD", help="name of a direction, for example `axis-1`")
    command.add_argument("new", metavar="NEW", help="its new name, for example `brightness`")
    command.set_defaults(run=lambda given: rename(store=given.store, model=given.model, old=given.old, new=given.new))


def rename(*, store: Path, model: str, old: str, new: str) -> int:
    """Give a direction another name."""
    base = Base(store, model)
    if old not in base.directions:
        known = ", ".join(base.directions) or "none"
        raise ConfigError(f"{model} version {base.version} has no direction {old!r}; it has: {known}")
    if new in base.directions:
        raise ConfigError(f"{model} version {base.version} has a direction {new!r} already")
    if not NAME.fullmatch(new):
        raise ConfigError(f"NEW is {new!r}: must be {NAME_RULE}")
    base.publish(
        replace(direction, name=new) if name == old else direction for name, direction in base.directions.items()
    )
    return exit_codes.DONE


def _write_sheets(pictures: Pictures, directions: Sequence[Direction], folder: Path | None) -> None:
    """Draw what each direction does: a row for each of four seeds, moved from -3 to 3."""
    for direction in directions if folder else ():
        assert folder
        images = pictures.sheet(direction.array, seed_range(0, _SHEET_SEEDS))
        with replaced(folder / f"{direction.name}.png") as partial:
            sheet(images).save(partial, "PNG")
    if folder and directions:
        print(f"{folder}: a sheet for each direction, NAME.png: {_SHEET_SEEDS} seeds from -3 to +3")


def _check_samples(samples: int) -> None:
    if not LEAST_ROWS <= samples <= 10**6:
        raise ConfigError(f"--samples is {samples}: must be {LEAST_ROWS} to 1000000")


def _add_version(command: Any, *, changes: bool) -> None:
    """Add what names a version. Commands that publish need the path of a store: the bundled one does not change."""
    if changes:
        add_path(command, "--store", type=directory, required=True, metavar="DIR", help="model store")
    else:
        help_text = "model store (default: the bundled models)"
        add_path(command, "--store", type=directory, default=BUNDLED_STORE, metavar="DIR", help=help_text)
    command.add_argument("--model", required=True, metavar="NAME", help="name of the model")


def _add_scorer(command: Any, *, required: bool = False) -> None:
    command.add_argument(
        "--scorer",
        required=required,
        metavar="MODULE:FUNCTION",
        help="Python function of images, uint8 [N, R, R, C], that returns a dict: name -> N numbers",
    )


def _add_samples(command: Any, default: int) -> None:
    command.add_argument(
        "--samples", type=int, default=default, metavar="N", help="number of images to make (default: %(default)s)"
    )


def _add_sheets(command: Any) -> None:
    add_path(command, "--sheets", metavar="DIR", help="also draw a sheet for each direction: DIR/NAME.png")
