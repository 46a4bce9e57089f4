"""`progan directions`: from scores to a published version, on an untrained network of 8x8 pixels."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from progan_service.evaluation.directions import MEASURED_SEEDS, Pictures
from progan_service.evaluation.thumbnails import thumbnails
from progan_service.sources.fakes import Fakes
from progan_service.store.store import ModelStore

SCORERS = """
import numpy as np

def colours(images):
    red = images[..., 0].mean(axis=(1, 2)) - images.mean(axis=(1, 2, 3))
    return {"corner": images[:, 0, 0, 0], "red": red}

def chance(images):
    return {"chance": images.reshape(len(images), -1).astype(int).sum(axis=1) * 7919 % 1000}

def mixed(images):
    return {**colours(images), **chance(images)}

def lists(images):
    return [1.0] * len(images)

def short(images):
    return {"corner": [1.0]}
"""

Progan = Callable[..., Any]


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own with the tiny model, in a working directory with scorers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "judges.py").write_text(SCORERS)
    return Path(shutil.copytree(tiny_store, tmp_path / "store"))


def directions(progan: Progan, command: str, *arguments: str, store: str = "store") -> Any:
    return progan("directions", command, "--store", store, "--model", "tiny", *arguments)


def test_directions_are_fitted_with_a_scorer_and_published(progan: Progan, store: Path) -> None:
    ended = directions(progan, "fit", "--scorer", "judges:colours", "--samples", "400", "--sheets", "sheets")
    assert (ended.code, ended.err) == (0, "")
    headings, corner, _, *notes = ended.out.splitlines()
    assert headings.split() == ["DIRECTION", "R", "RISES", "CORNER", "RED"]
    assert corner.split()[0] == "corner"
    assert corner.split()[2:5] == ["10", "of", "10"]
    assert notes == [
        "right: how much each score changes from -2 to +2, in its standard deviations (mean of 10 seeds)",
        "sheets: a sheet for each direction, NAME.png: 4 seeds from -3 to +3",
        "store/tiny/2: tiny version 2 is version 1 with the directions corner, red",
    ]
    found = ModelStore(store).directions("tiny", 2)
    assert list(found) == ["corner", "red"]
    assert found["corner"].origin == "fitted"
    assert found["corner"].samples == 400
    assert found["corner"].r is not None
    assert found["corner"].r > 0.75
    assert found["corner"].monotone == 1
    assert found["corner"].shift_sd is not None
    assert found["corner"].shift_sd > 0.5


def test_a_sheet_has_a_row_for_each_seed_and_grows_brighter_to_the_right(progan: Progan, store: Path) -> None:
    directions(progan, "fit", "--scorer", "judges:colours", "--samples", "400", "--sheets", "sheets")
    with Image.open("sheets/corner.png") as picture:
        assert picture.size == (7 * 66 - 2, 4 * 66 - 2)  # 8x8 pixels are enlarged to 64x64, with gaps of 2
        columns = [np.asarray(picture)[::66, left, 0].mean() for left in range(0, 7 * 66, 66)]
    assert columns == sorted(columns)


def test_scores_are_written_and_fitted_again_from_their_csv(progan: Progan, store: Path) -> None:
    ended = directions(progan, "score", "--scorer", "judges:colours", "--samples", "400", "scores.csv")
    assert ended.out == "scores.csv: corner, red of 400 seeds, tiny version 1\n"
    lines = Path("scores.csv").read_text().splitlines()
    assert lines[0] == "seed,corner,red"
    assert len(lines) == 401
    ended = directions(progan, "fit", "--scores", "scores.csv")
    assert (
        ended.out.splitlines()[1].split()[2] == "-"
    )  # without a scorer nobody can say whether edited images score more
    assert "in its standard deviations (by the regression)" in ended.out
    by_csv = ModelStore(store).directions("tiny", 2)
    directions(progan, "fit", "--scorer", "judges:colours", "--samples", "400")
    by_scorer = ModelStore(store).directions("tiny", 3)
    for name in ("corner", "red"):
        assert by_csv[name].array @ by_scorer[name].array == pytest.approx(1, abs=1e-5)
    assert by_csv["corner"].monotone is None


def test_directions_that_foretell_too_little_are_not_published_without_force(progan: Progan, store: Path) -> None:
    ended = directions(progan, "fit", "--scorer", "judges:chance", "--samples", "400")
    assert ended.code == 78
    assert ended.err.startswith("progan: chance (r ")
    assert ended.err.endswith(
        "): a direction with r below 0.7 often moves something else: score more seeds, or publish it with --force\n"
    )
    assert ModelStore(store).versions("tiny") == [1]
    assert directions(progan, "fit", "--scorer", "judges:chance", "--samples", "400", "--force").code == 0
    assert list(ModelStore(store).directions("tiny", 2)) == ["chance"]


def test_a_direction_that_foretells_too_little_is_left_out_and_named(progan: Progan, store: Path) -> None:
    ended = directions(progan, "fit", "--scorer", "judges:mixed", "--samples", "400")
    assert ended.code == 0
    *_, left_out, published = ended.out.splitlines()
    assert left_out.startswith("left out: chance (r ")
    assert left_out.endswith("a direction with r below 0.7 often moves something else; --force publishes it, too")
    assert published == "store/tiny/2: tiny version 2 is version 1 with the directions corner, red"


def test_directions_are_discovered_shown_and_named(progan: Progan, store: Path) -> None:
    ended = directions(progan, "discover", "--count", "3", "--samples", "400", "--sheets", "sheets")
    assert ended.out.splitlines()[-1] == (
        "store/tiny/2: tiny version 2 is version 1 with the directions axis-1, axis-2, axis-3"
    )
    assert sorted(file.name for file in Path("sheets").iterdir()) == ["axis-1.png", "axis-2.png", "axis-3.png"]
    ended = directions(progan, "rename", "axis-1", "light")
    assert ended.out == "store/tiny/3: tiny version 3 is version 2 with the directions light, axis-2, axis-3\n"
    assert directions(progan, "show").out == (
        "tiny version 3\n"
        "DIRECTION  ORIGIN      SAMPLES  R  RISES  SHIFT\n"
        "light      discovered  400      -  -      -\n"
        "axis-2     discovered  400      -  -      -\n"
        "axis-3     discovered  400      -  -      -\n"
    )


def test_along_what_is_discovered_images_change_more_than_along_chance(progan: Progan, store: Path) -> None:
    directions(progan, "discover", "--count", "1", "--samples", "400")
    models = ModelStore(store)
    pictures = Pictures(models.metadata("tiny", 2), Fakes.open(models.path("tiny", 2)).draw)

    def change(direction: Any) -> float:
        first, last = (
            thumbnails(np.concatenate(list(pictures.images(MEASURED_SEEDS, direction, by)))) for by in (-1, 1)
        )
        return float(((last - first) ** 2).mean())

    found = models.directions("tiny", 2)["axis-1"].array
    assert change(found) > 1.3 * np.mean([change(axis) for axis in np.eye(16)])


def test_what_was_there_stays_and_a_pinned_version_goes_on_serving(progan: Progan, store: Path) -> None:
    directions(progan, "discover", "--count", "1", "--samples", "400")
    directions(progan, "fit", "--scorer", "judges:colours", "--samples", "400")
    models = ModelStore(store)
    assert list(models.directions("tiny", 3)) == ["axis-1", "corner", "red"]
    progan("models", "pin", "tiny", "3", "--store", "store")
    ended = directions(progan, "rename", "red", "redness")
    assert ended.out.splitlines()[1] == (
        "  version 3 is pinned and goes on serving; to let this one serve: progan models pin tiny 4 --store store"
    )


def test_nearly_equal_directions_are_named(progan: Progan, store: Path) -> None:
    rows = [f"{seed},{seed % 17},{seed % 17 + seed % 3 / 9}" for seed in range(200)]
    Path("scores.csv").write_text("\n".join(["seed,one,other", *rows]))
    ended = directions(progan, "fit", "--scores", "scores.csv", "--force")
    assert ended.out.splitlines()[-1] == (
        "other and one are nearly one direction (cosine 1.00): neither can be held for the other"
    )


def test_a_version_without_directions_says_so(progan: Progan, store: Path) -> None:
    ended = progan("directions", "show", "--store", store, "--model", "tiny")
    assert ended.out == "tiny version 1: has no directions\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "begins with '': must begin with seed,NAME,..."),
        ("size,seed\n1,2", "begins with 'size,seed': must begin with seed,NAME,..."),
        ("seed,size\n1,2,3", "line 2: has 3 values: must have 2"),
        ("seed,size\n1,2\n-1,2", "line 3: seed is '-1': must be a whole number from 0 to 2^64 - 1"),
        ("seed,size\n1,large", "line 2: size is 'large': must be a number"),
        ("seed,size\n1,nan", "line 2: size is 'nan': must be a number"),
        ("seed,size\n1,2\n1,3", "line 3: has seed 1 again"),
        ("seed,size\n1,2", "there are scores of 1 seeds: must be 100 or more, better 2000"),
        ("seed,Size\n1,2", "a score is named 'Size': the name of a direction must be 1 to 63 small letters"),
        ("seed,size\n" + "\n".join(f"{seed},7" for seed in range(100)), "size is 7 for all seeds: scores must differ"),
    ],
)
def test_a_csv_that_cannot_be_fitted_is_one_sentence(progan: Progan, store: Path, content: str, says: str) -> None:
    Path("scores.csv").write_text(content)
    ended = directions(progan, "fit", "--scores", "scores.csv")
    assert ended.code == 78
    assert ended.err.startswith("progan: scores.csv")
    assert says in ended.err


def test_a_version_that_is_exported_again_keeps_its_directions(progan: Progan, store: Path) -> None:
    assert directions(progan, "discover", "--count", "2", "--samples", "100").code == 0
    assert progan("export", "store/tiny/2", "--store", "store", "--name", "tiny", "--no-invert").code == 0
    models = ModelStore(store)
    assert list(models.directions("tiny", 3)) == ["axis-1", "axis-2"]
    assert models.directions("tiny", 3) == models.directions("tiny", 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "--scores", "none.csv"), "none.csv: cannot be read: No such file or directory"),
        (("fit", "--scorer", "judges"), "--scorer is 'judges': must be MODULE:FUNCTION"),
        (("fit", "--scorer", "nobody:colours"), "--scorer is 'nobody:colours': No module named 'nobody'"),
        (("fit", "--scorer", "judges:smell"), "--scorer is 'judges:smell': the module has no function 'smell'"),
        (("fit", "--scorer", "judges:lists"), "the scorer returns list: must be a dict, name -> 16 numbers"),
        (("fit", "--scorer", "judges:short"), "the scorer's corner must be 16 finite numbers, one for each image"),
        (("fit", "--scorer", "judges:colours", "--samples", "7"), "--samples is 7: must be 100 to 1000000"),
        (("discover", "--count", "17"), "--count is 17: must be 1 to 16"),
        (("rename", "size", "width"), "tiny version 1 has no direction 'size'; it has: none"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    progan: Progan, store: Path, arguments: tuple[str, ...], says: str
) -> None:
    ended = directions(progan, *arguments)
    assert (ended.code, ended.err) == (78, f"progan: {says}\n")
