"""A real run from 4x4 to 8x8 on drawn faces: what it goes through, what it leaves, how it stops and goes on."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.data.dataset import Dataset
from progan_service.errors import FileError
from progan_service.export.weights_file import load_weights
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.pixels import to_uint8
from progan_service.sources.run import load_run
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import CheckpointError, read_checkpoint
from progan_service.training.trainer import train

Scalars = Callable[[Path], dict[str, dict[int, float]]]

TABLE = 5  # lines of the dry run that a report begins with, after one that says from where: three stages to come
LINE = re.compile(
    r"kimg \S+/0\.[12]  (?P<stage>\S+)  alpha (?P<alpha>\S+)  "
    r"D \S+  penalty \S+  distance \S+  G \S+  \S+ images/s  input \d+%"
)


def go(run: Path, config: RunConfig, dataset: Dataset, stop_at: int | None = None) -> tuple[bool, list[str]]:
    """Train until the end or until `stop_at` images were shown: whether it ended, and what was reported."""
    shown, report = [0], list[str]()
    finished = train(
        run,
        config,
        dataset,
        report=report.append,
        progress=lambda done, _: shown.append(done),
        stopping=lambda: stop_at is not None and shown[-1] >= stop_at,
    )
    return finished, report


def cells_of(grid: Path) -> NDArray[np.uint8]:
    """The 32 images of a grid of 8x8, each pixel of which is drawn as 8x8 pixels."""
    sheet = np.asarray(Image.open(grid))[::8, ::8]
    return sheet.reshape(4, 8, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(32, 8, 8, 3)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# A finished run


def test_every_step_shows_a_batch(finished_run: Path, run_progress: list[int]) -> None:
    assert run_progress == list(range(8, 225, 8))


def test_it_stabilises_fades_and_stabilises_again(finished_run: Path, run_report: list[str]) -> None:
    assert run_report[0].startswith("training on 48 images of ")
    assert [line.split("  ")[0] for line in run_report[1 : 1 + TABLE]] == [
        "stage",
        "4x4",
        "8x8 fading in",
        "8x8",
        "expected in all",
    ]
    lines = [LINE.fullmatch(line) for line in run_report[1 + TABLE :]]
    assert [line and (line["stage"], line["alpha"]) for line in lines] == [
        ("4x4", "1.00"),
        ("4x4", "1.00"),
        ("8x8", "0.38"),
        ("8x8", "0.88"),
        ("8x8", "1.00"),
        ("8x8", "1.00"),
        ("8x8", "1.00"),
    ]


def test_the_newest_two_checkpoints_are_left(finished_run: Path) -> None:
    assert names_in(finished_run / "checkpoints") == ["images-000000192.npz", "images-000000224.npz"]


def test_every_tick_leaves_a_grid(finished_run: Path) -> None:
    ticks = range(32, 225, 32)
    assert names_in(finished_run / "grids") == [*(f"fakes-{n:09d}.png" for n in ticks), "reals.png"]


def test_grids_of_every_stage_have_one_size(finished_run: Path) -> None:
    pictures = [np.asarray(Image.open(path)) for path in (finished_run / "grids").iterdir()]
    assert {picture.shape for picture in pictures} == {(256, 512, 3)}  # four rows of eight images, 64 pixels each


def test_the_grid_of_a_small_stage_is_drawn_in_blocks(finished_run: Path) -> None:
    grid = np.asarray(Image.open(finished_run / "grids" / "fakes-000000032.png"))
    np.testing.assert_array_equal(grid[::16, ::16].repeat(16, axis=0).repeat(16, axis=1), grid)


def test_reals_are_shown_as_they_are(finished_run: Path, faces: Dataset) -> None:
    originals = {image.tobytes() for image in faces.images(np.arange(48), 8)}
    assert len({cell.tobytes() for cell in cells_of(finished_run / "grids" / "reals.png")} & originals) == 32


def test_tensorboard_can_read_the_scalars(finished_run: Path, scalars_of: Scalars) -> None:
    scalars = scalars_of(finished_run)
    assert scalars["schedule/resolution"] == {32: 4, 64: 4, 96: 8, 128: 8, 160: 8, 192: 8, 224: 8}
    assert scalars["schedule/alpha"] == {32: 1, 64: 1, 96: 0.375, 128: 0.875, 160: 1, 192: 1, 224: 1}
    assert scalars["loss/D_skipped"] == dict.fromkeys(range(32, 225, 32), 0)
    assert {"loss/D", "loss/G", "loss/penalty", "loss/penalty_norm", "loss/distance"} < scalars.keys()
    assert all(0 <= share <= 1 for share in scalars["speed/input_wait_share"].values())
    assert not {name for name in scalars if name.startswith(("metrics", "loss/stop"))}


def test_tensorboard_shows_the_grids(finished_run: Path) -> None:
    shown = {}
    for events in (finished_run / "tensorboard").iterdir():
        for record in tf.data.TFRecordDataset(str(events)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    shown[value.tag, event.step] = tf.io.decode_png(tf.make_ndarray(value.tensor)[2]).numpy()
    assert sorted(shown) == [*(("fakes", images_shown) for images_shown in range(32, 225, 32)), ("reals", 0)]
    for (name, file), step in {("reals", "reals"): 0, ("fakes", "fakes-000000224"): 224}.items():
        grid = np.asarray(Image.open(finished_run / "grids" / f"{file}.png"))
        np.testing.assert_array_equal(shown[name, step], grid)


def test_the_average_has_left_its_beginning(finished_run: Path) -> None:
    before, after = map(read_checkpoint, sorted((finished_run / "checkpoints").iterdir()))
    name = "4x4/dense/kernel"
    ema_step = np.abs(after[f"generator_ema/{name}"] - before[f"generator_ema/{name}"]).max()
    generator_step = np.abs(after[f"generator/{name}"] - before[f"generator/{name}"]).max()
    assert 0 < ema_step < generator_step


def test_adam_began_afresh_with_the_last_stage(finished_run: Path) -> None:
    arrays = read_checkpoint(finished_run / "checkpoints" / "images-000000224.npz")
    assert int(arrays["generator_adam/steps"]) == 12  # (224 - 128) / 8, of 28 steps
    assert arrays["stage"].tolist() == [8, 0]


# Stopping and going on


def test_stopping_saves_and_going_on_begins_there(tmp_path: Path, run_config: RunConfig, faces: Dataset) -> None:
    short = replace(run_config, training=replace(run_config.training, total_kimg=0.04))
    finished, report = go(tmp_path, short, faces, stop_at=16)
    assert not finished
    assert report[0] == f"training on 48 images of {faces.directory}"
    assert report[1] == "note: the run ends after 0.04 kimg at 4x4, alpha 1.00; 8x8 is fully faded in after 0.128 kimg"
    assert [line.split("  ")[0] for line in report[2:]] == ["stage", "4x4", "expected in all"]  # no tick yet
    assert names_in(tmp_path / "checkpoints") == ["images-000000024.npz"]  # the step that was told to stop was taken

    finished, report = go(tmp_path, short, faces)
    assert finished
    assert report[0] == f"going on from {tmp_path}/checkpoints/images-000000024.npz"
    assert [line.split("  ")[0] for line in report[5:]] == ["kimg 0.0/0.0", "kimg 0.0/0.0"]
    assert names_in(tmp_path / "checkpoints") == ["images-000000032.npz", "images-000000040.npz"]


def test_told_to_stop_in_its_last_step_a_run_is_finished(tmp_path: Path, run_config: RunConfig, faces: Dataset) -> None:
    short = replace(run_config, training=replace(run_config.training, total_kimg=0.016))
    finished, _ = go(tmp_path, short, faces, stop_at=8)
    assert finished
    assert names_in(tmp_path / "checkpoints") == ["images-000000016.npz"]


def test_a_signal_before_the_first_step_trains_nothing(tmp_path: Path, run_config: RunConfig, faces: Dataset) -> None:
    finished, report = go(tmp_path, run_config, faces, stop_at=0)
    assert not finished
    assert [line.split("  ")[0] for line in report[1:]] == ["stage", "stopped after 0 of 3 stages"]
    assert not (tmp_path / "checkpoints").exists()


def test_a_finished_run_has_nothing_left_to_do(copied_run: Path, run_config: RunConfig, faces: Dataset) -> None:
    finished, report = go(copied_run, run_config, faces)
    assert finished
    assert report == [
        f"going on from {copied_run}/checkpoints/images-000000224.npz",
        "nothing to do: 0.224 kimg were shown, --total-kimg is 0.224; with a larger one the run goes on",
    ]
    assert names_in(copied_run / "checkpoints") == ["images-000000192.npz", "images-000000224.npz"]


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    copied_run: Path, run_config: RunConfig, faces: Dataset
) -> None:
    newest = copied_run / "checkpoints" / "images-000000224.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    finished, report = go(copied_run, run_config, faces)
    assert finished
    assert report[0].startswith(f"warning: {newest}: not a readable checkpoint (")
    assert report[1] == f"going on from {copied_run}/checkpoints/images-000000192.npz"
    assert int(read_checkpoint(newest)["images_shown"]) == 224


def test_a_foreign_file_among_the_checkpoints_does_no_harm(
    copied_run: Path, run_config: RunConfig, faces: Dataset
) -> None:
    foreign = copied_run / "checkpoints" / "images-999999999.npz"
    np.savez(foreign, kernel=np.ones(3))
    finished, report = go(copied_run, run_config, faces)
    assert finished
    assert report[:2] == [
        f"warning: {foreign}: not a readable checkpoint (holds no images_shown)",
        f"going on from {copied_run}/checkpoints/images-000000224.npz",
    ]


def test_without_a_whole_checkpoint_a_run_does_not_begin_anew(
    copied_run: Path, run_config: RunConfig, faces: Dataset
) -> None:
    for checkpoint in (copied_run / "checkpoints").iterdir():
        checkpoint.write_bytes(b"PK")
    with pytest.raises(CheckpointError) as refused:
        go(copied_run, run_config, faces)
    assert str(refused.value) == (
        f"{copied_run}/checkpoints: holds damaged checkpoints alone; remove them to begin the run anew"
    )


@pytest.mark.parametrize("claimed", [True, False])
def test_a_run_directory_that_vanishes_ends_the_run(
    tmp_path: Path, run_config: RunConfig, faces: Dataset, claimed: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if claimed:
        (run / "config.json").write_text(run_config.to_json())

    def remove(images_shown: int, _: int) -> None:
        if images_shown == 40:
            shutil.rmtree(run)

    with pytest.raises(FileError) as ended:
        train(run, run_config, faces, report=lambda _: None, progress=remove, stopping=lambda: False)
    assert str(ended.value) == (
        f"{run}: the directory of the run was removed, or its disk or mount is gone; put it back, and the same command "
        "goes on from its newest checkpoint"
    )
    assert not run.exists()


# With labels and mirrored, in one piece and after a kill


KILLED_AND_WHOLE = """
import shutil
import sys
from pathlib import Path

from progan_service.training.config import RunConfig
from progan_service.data.dataset import Dataset
from progan_service.training.devices import make_deterministic
from progan_service.training.run.directory import claim_run_directory
from progan_service.training.trainer import train

root, config, dataset = Path(sys.argv[1]), RunConfig.from_json(sys.argv[2]), Dataset.open(Path(sys.argv[3]))
make_deterministic()

def leave_a_copy(images_shown, _):
    if images_shown == 104:  # as a kill would leave it: one step after the checkpoint in the middle of the fade
        shutil.copytree(root / "whole", root / "killed")

claim_run_directory(root / "whole", config)
assert train(root / "whole", config, dataset, report=print, progress=leave_a_copy, stopping=lambda: False)
print("---")
assert train(root / "killed", config, dataset, report=print, progress=lambda *_: None, stopping=lambda: False)
"""


@dataclass(frozen=True)
class KilledAndWhole:
    """The directories of a run with labels to image 144 and of its copy that was killed and has gone on."""

    whole: Path
    killed: Path
    whole_report: list[str]
    killed_report: list[str]


@pytest.fixture(scope="module")
def killed_and_whole(tmp_path_factory: pytest.TempPathFactory, run_config: RunConfig, faces: Dataset) -> KilledAndWhole:
    # In a process of its own: TensorFlow's determinism cannot be switched off again.
    root = tmp_path_factory.mktemp("runs")
    config = replace(
        run_config,
        dataset=replace(run_config.dataset, label_names=faces.label_names),
        network=replace(run_config.network, label_size=2),
        training=replace(run_config.training, total_kimg=0.144, mirror=True),
    )
    command = [sys.executable, "-c", KILLED_AND_WHOLE, root, config.to_json(), faces.directory]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    reports = [report.splitlines() for report in result.stdout.split("---\n")]
    return KilledAndWhole(root / "whole", root / "killed", *reports)


def test_a_killed_run_ends_with_the_weights_of_a_whole_one(killed_and_whole: KilledAndWhole) -> None:
    killed = killed_and_whole.killed
    assert killed_and_whole.killed_report[0] == f"going on from {killed}/checkpoints/images-000000096.npz"
    whole, again = (
        read_checkpoint(run / "checkpoints" / "images-000000144.npz") for run in (killed_and_whole.whole, killed)
    )
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name].tobytes() != again[name].tobytes()] == []


def test_a_killed_run_leaves_the_snapshots_of_a_whole_one(killed_and_whole: KilledAndWhole) -> None:
    whole, again = (
        {path.name: path.read_bytes() for path in (run / "snapshots").iterdir()}
        for run in (killed_and_whole.whole, killed_and_whole.killed)
    )
    assert sorted(whole) == [f"images-{n:09d}.safetensors" for n in (32, 64, 96, 128, 144)]
    assert again == whole


def test_a_snapshot_of_a_run_with_labels_knows_their_names(killed_and_whole: KilledAndWhole) -> None:
    snapshot = load_weights(killed_and_whole.killed / "snapshots" / "images-000000096.safetensors")
    assert snapshot.label_names == ("no glasses", "glasses")
    assert snapshot.generator.config.label_size == 2


def test_a_run_with_labels_grows(killed_and_whole: KilledAndWhole) -> None:
    lines = [LINE.fullmatch(line) for line in killed_and_whole.whole_report[1 + TABLE :]]
    assert [line and (line["stage"], line["alpha"]) for line in lines] == [
        ("4x4", "1.00"),
        ("4x4", "1.00"),
        ("8x8", "0.38"),
        ("8x8", "0.88"),
        ("8x8", "1.00"),
    ]


def test_the_grid_of_a_run_with_labels_shows_them_in_turn(killed_and_whole: KilledAndWhole) -> None:
    generator = load_run(killed_and_whole.whole).generator
    latents = tf.constant(latents_from_seeds(seed_range(0, 32), generator.config.latents))
    cells = cells_of(killed_and_whole.whole / "grids" / "fakes-000000144.png")
    for first, label in ((0, [1.0, 0.0]), (1, [0.0, 1.0])):
        images = to_uint8(generator(latents[first::2], tf.constant([label] * 16), resolution=8))
        assert np.abs(cells[first::2].astype(int) - images.numpy()).max() <= 1  # rounded in another process
