"""Snapshots: a run can be taken as it was at any of its ticks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from progan_service.data.dataset import Dataset
from progan_service.export.weights_file import load_weights
from progan_service.sources.run import load_run
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import read_checkpoint
from progan_service.training.trainer import train


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_every_tick_leaves_a_snapshot_and_all_are_kept(finished_run: Path) -> None:
    assert names_in(finished_run / "snapshots") == [f"images-{n:09d}.safetensors" for n in range(32, 225, 32)]


@pytest.mark.parametrize("images_shown", [192, 224])
def test_a_snapshot_is_the_averaged_generator_of_its_tick(finished_run: Path, images_shown: int) -> None:
    generator = load_weights(finished_run / "snapshots" / f"images-{images_shown:09d}.safetensors").generator
    arrays = read_checkpoint(finished_run / "checkpoints" / f"images-{images_shown:09d}.npz")
    assert len(generator.weights) == 12
    for weight in generator.weights:
        average = arrays[weight.path.replace("generator/", "generator_ema/")]
        assert weight.numpy().tobytes() == average.tobytes()


@pytest.mark.parametrize(
    ("images_shown", "resolution", "alpha"), [(32, 4, 1.0), (64, 4, 1.0), (96, 8, 0.5), (128, 8, 1.0)]
)
def test_a_snapshot_is_as_far_grown_as_the_run_was(
    finished_run: Path, images_shown: int, resolution: int, alpha: float
) -> None:
    snapshot = load_weights(finished_run / "snapshots" / f"images-{images_shown:09d}.safetensors")
    assert (snapshot.resolution, snapshot.alpha) == (resolution, alpha)
    assert snapshot.provenance["images_shown"] == images_shown


def test_the_last_snapshot_is_known_as_the_run_is(finished_run: Path) -> None:
    run, snapshot = load_run(finished_run), load_weights(finished_run / "snapshots" / "images-000000224.safetensors")
    assert snapshot.generator.config == run.generator.config
    assert (snapshot.resolution, snapshot.alpha) == (run.resolution, run.alpha) == (8, 1.0)
    provenance = dict(snapshot.provenance)
    assert provenance.pop("weights_file") == "images-000000224.safetensors"
    assert len(provenance.pop("weights_sha256")) == 64
    assert provenance == json.loads(json.dumps(run.provenance))


@pytest.mark.parametrize(
    ("snapshot_ticks", "chief", "images_shown"), [(3, True, [24, 40]), (0, True, []), (1, False, [])]
)
def test_the_chief_takes_them_every_so_many_ticks_and_at_the_end(
    tmp_path: Path, run_config: RunConfig, faces: Dataset, snapshot_ticks: int, chief: bool, images_shown: list[int]
) -> None:
    training = replace(run_config.training, total_kimg=0.04, tick_kimg={4: 0.008}, snapshot_ticks=snapshot_ticks)
    assert train(
        tmp_path,
        replace(run_config, training=training),
        faces,
        report=lambda _: None,
        progress=lambda *_: None,
        stopping=lambda: False,
        chief=chief,
    )
    assert sorted(tmp_path.rglob("*.safetensors")) == [
        tmp_path / "snapshots" / f"images-{n:09d}.safetensors" for n in images_shown
    ]


def test_a_run_that_goes_on_writes_its_snapshots_anew(copied_run: Path, run_config: RunConfig, faces: Dataset) -> None:
    last = copied_run / "snapshots" / "images-000000224.safetensors"
    (copied_run / "checkpoints" / "images-000000224.npz").unlink()
    last.write_bytes(b"half")
    before = names_in(copied_run / "snapshots")
    assert train(
        copied_run,
        run_config,
        faces,
        report=lambda _: None,
        progress=lambda *_: None,
        stopping=lambda: False,
    )
    assert names_in(copied_run / "snapshots") == before
    for weight, of_run in zip(
        load_weights(last).generator.weights, load_run(copied_run).generator.weights, strict=True
    ):
        np.testing.assert_array_equal(weight, of_run)
