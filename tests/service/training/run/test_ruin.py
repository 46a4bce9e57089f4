"""When a run is ruined, a step at a time; and a real one that is."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from progan_service.data.dataset import Dataset
from progan_service.training.config import RunConfig
from progan_service.training.run.ruin import RuinedRunError, SkippedSteps
from progan_service.training.trainer import train

TAKEN, SKIPPED = {"D_skipped": 0.0, "G_skipped": 0.0}, {"D_skipped": 1.0, "G_skipped": 0.0}


def tick(skipped: SkippedSteps, steps: Iterable[dict[str, float]], first: int = 0) -> bool:
    for number, step in enumerate(steps):
        skipped.add(step, first + number)
    return skipped.tick()


def test_a_step_that_mixed_precision_skips_now_and_then_does_no_harm() -> None:
    skipped = SkippedSteps()
    assert not any(tick(skipped, [TAKEN] * 19 + [SKIPPED]) for _ in range(100))
    assert not skipped.ruined


def test_two_lost_ticks_and_a_sound_one_are_no_ruin() -> None:
    skipped = SkippedSteps()
    for _ in range(10):
        assert [tick(skipped, [step] * 20) for step in (SKIPPED, SKIPPED, TAKEN)] == [True, True, False]
        assert not skipped.ruined


def test_three_lost_ticks_are() -> None:
    skipped = SkippedSteps()
    assert [(tick(skipped, [SKIPPED] * 20), skipped.ruined) for _ in range(3)] == [
        (True, False),
        (True, False),
        (True, True),
    ]


@pytest.mark.parametrize(("taken", "lost"), [(2, True), (3, False)])
def test_nine_of_ten_steps_are_nearly_all(taken: int, lost: bool) -> None:
    assert tick(SkippedSteps(), [TAKEN] * taken + [SKIPPED] * (20 - taken)) == lost


@pytest.mark.parametrize("network", ["D_skipped", "G_skipped"])
def test_one_network_is_enough(network: str) -> None:
    assert tick(SkippedSteps(), [TAKEN | {network: 1.0}] * 20)


def test_between_two_ticks_the_steps_since_the_last_one_tell_whether_it_is_losing() -> None:
    skipped = SkippedSteps()
    assert not skipped.losing
    tick(skipped, [SKIPPED] * 20)
    assert skipped.losing
    skipped.add(TAKEN, 20)
    assert not skipped.losing


def test_it_knows_since_when_steps_are_skipped() -> None:
    skipped = SkippedSteps()
    tick(skipped, [TAKEN] * 5 + [SKIPPED] + [TAKEN] * 10 + [SKIPPED] * 4)
    assert skipped.since == 16
    tick(skipped, [SKIPPED] * 20, first=20)
    tick(skipped, [SKIPPED] * 10 + [TAKEN] + [SKIPPED] * 9, first=40)
    assert skipped.since == 16
    tick(skipped, [TAKEN] * 20, first=60)
    tick(skipped, [TAKEN], first=80)
    assert skipped.since is None


# A real run: the 4x4 stage is sound, and with the first step at 8x8 all is lost


def too_fast(config: RunConfig, total_kimg: float) -> RunConfig:
    rates = {4: 0.001, 8: 1e30}
    return replace(config, training=replace(config.training, learning_rates=rates, fade_kimg=1, total_kimg=total_kimg))


def go(run: Path, config: RunConfig, faces: Dataset, stop_at: int | None = None) -> list[str]:
    """Train, and return what the run reports."""
    shown, report = [0], list[str]()
    train(
        run,
        config,
        faces,
        report=report.append,
        progress=lambda done, _: shown.append(done),
        stopping=lambda: stop_at is not None and shown[-1] >= stop_at,
    )
    return report


def saved(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("images-")) for path in (run / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, run_config: RunConfig, faces: Dataset) -> tuple[Path, str]:
    """The directory of the run and its last words."""
    run = tmp_path_factory.mktemp("runs") / "ruined"
    with pytest.raises(RuinedRunError) as ended:
        go(run, too_fast(run_config, total_kimg=1), faces)
    return run, str(ended.value)


@pytest.fixture
def ruined(ended: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended[0], tmp_path / "ruined"))


def test_a_ruined_run_ends_and_says_what_to_do(ended: tuple[Path, str]) -> None:
    run, error = ended
    assert error == (
        f"{run}: the run is ruined: since 72 images nearly all steps were skipped, for their gradients were not "
        f"finite; {run}/checkpoints/images-000000064.npz is from before that; begin a new run with smaller "
        "--learning-rates"
    )
    assert RuinedRunError.exit_code == 78


def test_what_was_saved_before_the_ruin_stays(ended: tuple[Path, str]) -> None:
    run, _ = ended
    assert saved(run) == [64, 96]  # between them the first step of 8x8, which did the harm
    assert len(list((run / "grids").glob("fakes-*.png"))) == 6  # the lost ticks can be seen
    assert max(path.name for path in (run / "snapshots").iterdir()) == "images-000000096.safetensors"


def test_a_run_that_ends_with_a_lost_tick_is_not_done(ruined: Path, run_config: RunConfig, faces: Dataset) -> None:
    with pytest.raises(RuinedRunError, match="the run is ruined: since 96 images nearly all steps were skipped"):
        go(ruined, too_fast(run_config, total_kimg=0.128), faces)
    assert saved(ruined) == [64, 96]


def test_stopped_while_steps_are_skipped_it_saves_nothing(ruined: Path, run_config: RunConfig, faces: Dataset) -> None:
    report = go(ruined, too_fast(run_config, total_kimg=1), faces, stop_at=112)
    assert report[0] == f"going on from {ruined}/checkpoints/images-000000096.npz"
    assert report[-1] == "warning: not saved, for nearly all steps since 96 images were skipped"
    assert saved(ruined) == [64, 96]
