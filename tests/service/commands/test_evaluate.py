"""`progan evaluate`: how good a generator is, as a table and as JSON."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from progan_command import refusal

from progan_service import __version__
from progan_service.commands import parser as cli
from progan_service.data.dataset import Dataset
from progan_service.data.making.demo import build_demo
from progan_service.data.order import image_indices
from progan_service.evaluation.features import compare
from progan_service.evaluation.measure import fake_inputs
from progan_service.sources.fakes import Fakes
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import read_checkpoint, save_checkpoint
from progan_service.training.run.directory import claim_run_directory
from progan_service.training.state import TrainingState

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def progan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs the command in this process; its exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["progan", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def evaluate(progan: Evaluate, faces: Dataset) -> Evaluate:
    """`progan evaluate` with 32 images; the last options win."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return progan("evaluate", "--data", faces.directory, "--images", 32, *arguments)

    return run


def figures(table: str) -> dict[str, list[float]]:
    """Those of the reals and of the only source."""
    heading, reals, fakes = table.splitlines()
    assert heading.split()[1:] == ["images", "SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM"]
    assert reals.startswith("Reals2 (noise floor)  ")
    return {name: [float(word) for word in line.split()[-3:]] for name, line in (("reals2", reals), ("fakes", fakes))}


def test_the_same_generator_has_the_same_figures_whatever_it_is_stored_in(
    progan: Evaluate, evaluate: Evaluate, finished_run: Path, tmp_path: Path
) -> None:
    assert progan("export", finished_run, "--store", tmp_path, "--name", "faces")[0] == 0
    assert progan("weights", finished_run, tmp_path / "w.npz")[0] == 0
    snapshot = finished_run / "snapshots" / "images-000000224.safetensors"
    sources = [finished_run, tmp_path / "faces" / "1", snapshot, tmp_path / "w.npz"]
    code, table, errors = evaluate(*sources)
    assert (code, errors) == (0, "")
    heading, reals, *rows = table.splitlines()
    assert [row.split()[0] for row in rows] == list(map(str, sources))
    found = [figures("\n".join((heading, reals, row))) for row in rows]
    assert found == [found[0]] * 4
    assert found[0]["fakes"][0] > found[0]["reals2"][0] > 0
    assert all(0 < row[2] < 1 for row in found[0].values())


def test_sources_of_several_sizes_stand_below_their_reals(
    evaluate: Evaluate, faces_16: Dataset, finished_run: Path, run_config: RunConfig, tmp_path: Path
) -> None:
    large = replace(run_config, network=replace(run_config.network, resolution=16))
    claim_run_directory(tmp_path / "large", large)
    state = TrainingState.fresh(large)
    state.images_shown = 256
    state.save(tmp_path / "large" / "checkpoints")
    mirrored = grown_run(tmp_path / "mirrored", replace(run_config, training=replace(run_config.training, mirror=True)))
    sources = (finished_run, tmp_path / "large", mirrored, finished_run / "snapshots" / "images-000000192.safetensors")
    code, table, errors = evaluate(*sources, "--data", faces_16.directory)
    assert code == 0
    assert errors == (
        f"progan: note: --images is 32, and {faces_16.directory} has 24: each is taken up to 2 times, "
        "and the noise floor compares them with themselves\n"
    )
    heading, *rows = table.splitlines()
    assert heading.split() == ["32", "images", "SWDx1e3_16", "SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM"]
    assert [row.split("  ")[0] for row in rows] == [
        "8x8 Reals2 (noise floor)",
        str(sources[0]),
        str(sources[3]),
        "16x16 Reals2 (noise floor)",
        str(sources[1]),
        "8x8 mirrored Reals2 (noise floor)",
        str(sources[2]),
    ]
    assert [row.split()[-4:-2].count("-") for row in rows] == [1, 1, 1, 1, 1, 1, 1]


def test_json_holds_the_figures_of_the_table_in_full_and_what_they_are_of(
    evaluate: Evaluate, faces: Dataset, finished_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    code, table, errors = evaluate(finished_run, "--json", file, "--seed", 7)
    assert (code, errors) == (0, "")
    document = json.loads(file.read_text())
    (result,) = document.pop("results")
    for name, row in figures(table).items():
        assert list(result[name]) == ["SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM"]
        assert list(result.pop(name).values()) == pytest.approx(row, abs=0.006)
    checkpoint = finished_run / "checkpoints" / "images-000000224.npz"
    assert result == {
        "source": str(finished_run),
        "digest": f"sha256:{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}",
        "resolution": 8,
        "mirror": False,
    }
    assert document == {
        "progan": __version__,
        "data": {"name": "faces", "images": 48, "digests": {"8x8": f"sha256:{faces.digests['8x8']}"}},
        "settings": {"images": 32, "seed": 7},
    }


@pytest.fixture
def every_fourth_pixel(tmp_path: Path) -> Path:
    """A network that gives four bytes of an image as its features."""
    images = tf.TensorSpec([None, 8, 8, 3], tf.float32)
    network = tf.function(lambda images: {"features": images[:, ::4, ::4, 0]}).get_concrete_function(images)
    tf.saved_model.save(tf.Module(), str(tmp_path / "net"), signatures={"serving_default": network})
    return tmp_path / "net"


def test_features_of_a_network_give_fid_kid_precision_and_recall(
    evaluate: Evaluate, faces: Dataset, finished_run: Path, every_fourth_pixel: Path, tmp_path: Path
) -> None:
    options = ("--features", every_fourth_pixel, "--feature-range", "byte", "--json", tmp_path / "figures.json")
    code, table, errors = evaluate(finished_run, *options, "--images", 24)
    assert (code, errors) == (0, "")
    columns = ["SWDx1e3_8", "SWDx1e3_avg", "MS-SSIM", "FID", "KIDx1e3", "precision", "recall"]
    assert table.splitlines()[0].split() == ["24", "images", *columns]
    document = json.loads((tmp_path / "figures.json").read_text())
    module = document["settings"]["features"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", module.pop("digest"))
    assert module == {"module": "net", "size": [8, 8], "range": "byte", "kid_block": 1024, "neighbours": 3}

    def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return images[:, ::4, ::4, 0].reshape(len(images), -1).astype(np.float64)

    reals, others = (features(faces.images(image_indices(0, first, 24, 48), 8)) for first in (0, 24))
    fakes = Fakes.open(finished_run)
    drawn = np.concatenate(list(fakes.draw(*fake_inputs(faces, fakes.latent_size, 0, count=24, seed=0))))
    (result,) = document["results"]
    for name, found in (("fakes", features(drawn)), ("reals2", others)):
        expected = compare(reals, found).columns()
        assert {column: result[name][column] for column in expected} == pytest.approx(expected)


def test_without_as_many_other_images_the_reals_have_no_figures_of_features(
    evaluate: Evaluate, finished_run: Path, every_fourth_pixel: Path
) -> None:
    code, table, _ = evaluate(finished_run, "--features", every_fourth_pixel, "--images", 60)
    assert code == 0
    _, reals, fakes = table.splitlines()
    assert reals.split()[-4:] == ["-"] * 4
    assert "-" not in fakes.split()


def test_a_network_for_features_that_is_none_is_named_before_the_work(
    evaluate: Evaluate, finished_run: Path, tmp_path: Path
) -> None:
    code, out, errors = evaluate(finished_run, "--features", tmp_path / "none")
    assert (code, out) == (78, "")
    assert errors.startswith(f"progan: {tmp_path}/none: no such file or directory; give a handle")


def test_the_seed_decides_the_figures(evaluate: Evaluate, finished_run: Path) -> None:
    first, again, other = (evaluate(finished_run, "--seed", seed)[1] for seed in (0, 0, 1))
    assert first == again != other


def grown_run(run: Path, config: RunConfig) -> Path:
    """Come to 8x8, with the weights it began with."""
    claim_run_directory(run, config)
    state = TrainingState.fresh(config)
    state.images_shown = 128
    state.save(run / "checkpoints")
    return run


@pytest.fixture
def labelled_run(tmp_path: Path, run_config: RunConfig) -> Path:
    return grown_run(
        tmp_path / "labelled",
        replace(
            run_config,
            dataset=replace(run_config.dataset, label_names=("no glasses", "glasses")),
            network=replace(run_config.network, label_size=2),
        ),
    )


def test_a_model_of_mirrored_images_is_measured_against_mirrored_ones(
    evaluate: Evaluate, run_config: RunConfig, tmp_path: Path
) -> None:
    runs = [
        grown_run(tmp_path / str(mirror), replace(run_config, training=replace(run_config.training, mirror=mirror)))
        for mirror in (False, True)
    ]
    plain, mirrored = (figures(evaluate(run)[1]) for run in runs)
    assert plain["reals2"] != mirrored["reals2"]
    assert plain["fakes"][2] == mirrored["fakes"][2]  # MS-SSIM between the same fakes


def test_a_model_with_labels_draws_those_of_the_dataset(
    progan: Evaluate, evaluate: Evaluate, labelled_run: Path, tmp_path: Path
) -> None:
    code, of_run, errors = evaluate(labelled_run)
    assert (code, errors) == (0, "")
    assert figures(of_run)["fakes"][0] > 0
    assert progan("export", labelled_run, "--store", tmp_path / "store", "--name", "faces")[0] == 0
    code, of_version, errors = evaluate(tmp_path / "store" / "faces" / "1")
    assert (code, errors, figures(of_version)) == (0, "", figures(of_run))


# What cannot be measured


def test_a_source_that_is_none(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate(tmp_path) == refusal(
        f"{tmp_path}: neither a training run (no config.json) nor a version of a model (no progan.json); "
        "give a run, STORE/MODEL/VERSION, or a file: a snapshot or other weights, NVIDIA's .pkl, PyTorch's .pth"
    )


def test_a_dataset_that_is_none(evaluate: Evaluate, finished_run: Path, tmp_path: Path) -> None:
    code, out, errors = evaluate(finished_run, "--data", tmp_path)
    assert (code, out) == (78, "")
    assert errors.startswith(f"progan: {tmp_path}: no dataset: ")


def test_a_dataset_without_images_of_the_size(evaluate: Evaluate, finished_run: Path, tmp_path: Path) -> None:
    build_demo(tmp_path / "small", 4, 8, seed=0, progress=lambda *_: None)
    assert evaluate(finished_run, "--data", tmp_path / "small") == refusal(
        f"{tmp_path}/small: no images of resolution 8: it has [4]"
    )


def test_a_dataset_without_the_labels_that_a_model_needs(
    evaluate: Evaluate, faces: Dataset, labelled_run: Path, tmp_path: Path
) -> None:
    plain = Path(shutil.copytree(faces.directory, tmp_path / "faces"))
    (plain / "faces-rxx.labels").unlink()
    manifest = json.loads((plain / "dataset.json").read_text())
    (plain / "dataset.json").write_text(json.dumps(manifest | {"label_names": []}))
    assert evaluate(labelled_run, "--data", plain) == refusal(f"{plain}: has 0 labels, {labelled_run} needs 2")


@pytest.mark.parametrize("count", [1, 0, -3])
def test_too_few_images(evaluate: Evaluate, finished_run: Path, count: int) -> None:
    assert evaluate(finished_run, "--images", count) == refusal(f"--images is {count}: must be 2 or more")


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_run_can_have(evaluate: Evaluate, finished_run: Path, seed: int) -> None:
    assert evaluate(finished_run, "--seed", seed) == refusal(f"--seed is {seed}: must be 0 or more, and below 2^31")


def test_images_too_small_for_a_patch(evaluate: Evaluate, copied_run: Path) -> None:
    arrays = read_checkpoint(copied_run / "checkpoints" / "images-000000224.npz")
    shutil.rmtree(copied_run / "checkpoints")
    save_checkpoint(copied_run / "checkpoints", 32, arrays | {"images_shown": np.array(32)})
    assert evaluate(copied_run) == refusal("images are 4x4: patches of 7x7 need at least 7 pixels")
