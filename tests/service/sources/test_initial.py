"""What a new run can begin with."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError, ProganError
from progan_service.export.discriminator import read_discriminator
from progan_service.export.weights_file import save_weights
from progan_service.model.config import NetworkConfig
from progan_service.sources.initial import InitialError, load_initial
from progan_service.sources.run import load_run, networks_of_run
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.checkpoint import read_checkpoint
from progan_service.training.state import TrainingState
from progan_service.training.trainer import train


def test_a_run_gives_both_networks_and_the_average(finished_run: Path) -> None:
    initial = load_initial(str(finished_run))
    assert (initial.config.resolution, initial.config.images_shown) == (8, 224)
    stored = read_checkpoint(finished_run / "checkpoints" / "images-000000224.npz")
    assert {name.partition("/")[0] for name in initial.arrays} == {"generator", "discriminator", "generator_ema"}
    for name, array in initial.arrays.items():
        np.testing.assert_array_equal(array, stored[name])


def test_a_weights_file_gives_the_generator_and_its_average(finished_run: Path, tmp_path: Path) -> None:
    trained = load_run(finished_run)
    save_weights(trained, tmp_path / "w.safetensors")
    initial = load_initial(str(tmp_path / "w.safetensors"))
    assert len(initial.arrays) == 2 * len(trained.generator.weights)
    for weight in trained.generator.weights:
        layer = weight.path.partition("/")[2]
        np.testing.assert_array_equal(initial.arrays[f"generator/{layer}"], weight)
        np.testing.assert_array_equal(initial.arrays[f"generator_ema/{layer}"], weight)


def test_a_version_gives_what_it_has_of_the_generator_and_the_discriminator_that_it_was_exported_with(
    progan, finished_run: Path, tmp_path: Path
) -> None:
    store = tmp_path / "models"
    assert progan("export", finished_run, "--store", store, "--name", "faces", "--discriminator").code == 0
    initial, run = load_initial(str(store / "faces" / "1")), networks_of_run(finished_run)
    assert "generator/to_rgb_8x8/kernel" in initial.arrays
    assert "generator/to_rgb_4x4/kernel" not in initial.arrays  # a version has only the layer that makes its images
    discriminator = [name for name in run if name.startswith("discriminator/")]
    assert len(discriminator) == 14
    for name in discriminator:
        np.testing.assert_array_equal(initial.arrays[name], run[name])
    kernel = "4x4/conv/kernel"  # of the averaged generator, in both; stored as it is served, so it is rounded
    np.testing.assert_allclose(initial.arrays[f"generator/{kernel}"], run[f"generator_ema/{kernel}"], rtol=1e-5)


def test_only_a_run_has_a_discriminator_to_export(progan, finished_run: Path, tmp_path: Path) -> None:
    save_weights(load_run(finished_run), weights := tmp_path / "w.npz")
    to = ("--store", tmp_path / "models", "--name", "faces", "--discriminator")
    refused = progan("export", weights, *to)
    assert (refused.code, refused.err) == (
        78,
        f"progan: {weights}: not a training run (no config.json); --discriminator takes that of a run\n",
    )
    refused = progan("export", finished_run, *to, "--best")
    assert (refused.code, "a snapshot has none: leave out --best" in refused.err) == (78, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"PK", "File is not a zip file"), (None, "is a directory")],
    ids=["no archive", "no file"],
)
def test_a_discriminator_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "discriminator.npz"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ProganError, match=f"discriminator.npz: .*{reason}"):
        read_discriminator(tmp_path)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InitialError, match="neither a training run .* nor a version of a model .*; give a run, STORE/"):
        load_initial(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("none", "no such file or directory"),
        ("notes.txt", "is no file of weights by its name"),
        ("https://tfhub.dev/google/progan-128/1", "is an address, and a TF Hub module has no weights that a run "),
    ],
)
def test_what_a_run_cannot_begin_with_is_named_with_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").touch()
    with pytest.raises(InitialError) as refused:
        load_initial(source)
    assert str(refused.value).startswith(f"{source}: {problem}")
    assert str(refused.value).endswith(
        "; give a run, STORE/MODEL/VERSION, or a file: a snapshot or other weights, NVIDIA's .pkl, PyTorch's .pth"
    )


# What a run makes of it


def begin(run: Path, dataset: Dataset, source: Path, network: NetworkConfig) -> tuple[list[str], TrainingState]:
    """Begin a run with the weights of a source and stop it before its first step: what was reported, and its state."""
    initial, report = load_initial(str(source)), list[str]()
    config = RunConfig(
        DatasetConfig("faces", dataset.count),
        network,
        TrainingConfig(batch_sizes={4: 8}, initial_resolution=initial.config.resolution),
        init=initial.config,
    )
    arguments = {"report": report.append, "progress": lambda *_: None, "stopping": lambda: True}
    train(run, config, dataset, initial=initial.arrays, **arguments)
    state = TrainingState.fresh(config)
    state.begin_with(initial.arrays)
    return report, state


def test_a_run_begins_with_all_that_fits_and_says_what_does_not(
    finished_run: Path, faces_16: Dataset, tmp_path: Path
) -> None:
    report, state = begin(tmp_path / "run", faces_16, finished_run, NetworkConfig(16, fmap_base=32, fmap_max=8))
    assert f"the generator begins with 12 of 18 arrays of {finished_run}" in report
    assert f"the discriminator begins with 14 of 20 arrays of {finished_run}" in report
    random = "16x16/conv0/kernel, 16x16/conv0/bias, 16x16/conv1/kernel, 16x16/conv1/bias, to_rgb_16x16/kernel"
    assert any(line.startswith(f"  random at first: {random}") for line in report)
    before = load_run(finished_run).generator
    np.testing.assert_array_equal(state.generator_ema.blocks[8].conv1.kernel, before.blocks[8].conv1.kernel)


def test_a_network_of_other_sizes_cannot_begin_with_them(finished_run: Path, faces: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no array of its generator fits; its network has other feature maps"):
        begin(tmp_path / "run", faces, finished_run, NetworkConfig(8, channels=1, fmap_base=64, fmap_max=16))


# The command


def test_a_run_begins_with_another_run_and_goes_on_without_it(
    progan, finished_run: Path, faces: Dataset, tmp_path: Path
) -> None:
    source, run = Path(shutil.copytree(finished_run, tmp_path / "before")), tmp_path / "run"
    options = ["--fmap-base", 32, "--fmap-max", 8, "--batch-sizes", 8, "--tick-kimg", 0.008, "--seed", 1]
    first = progan("train", "--data", faces.directory, "--run", run, "--init", source, *options, "--total-kimg", 0.008)
    assert first.code == 0, first.err
    assert f"the discriminator begins with 14 of 14 arrays of {source}" in first.err + first.out
    assert "kimg 0.0/0.0  8x8  alpha 1.00" in first.err + first.out

    shutil.rmtree(source)
    assert progan("train", "--run", run, "--total-kimg", 0.016).code == 0
    assert load_run(run).provenance["init"]["images_shown"] == 224
    other = progan("train", "--run", run, "--init", "elsewhere", "--total-kimg", 0.024)
    assert (other.code, f"began with {source}, --init is elsewhere" in other.err) == (78, True)


def test_before_the_first_checkpoint_the_source_may_be_moved_but_not_changed(
    progan, finished_run: Path, faces: Dataset, tmp_path: Path
) -> None:
    before, run = Path(shutil.copytree(finished_run, tmp_path / "before")), tmp_path / "run"
    options = ["--fmap-base", 32, "--fmap-max", 8, "--batch-sizes", 8, "--tick-kimg", 0.008, "--total-kimg", 0.008]
    assert progan("train", "--data", faces.directory, "--run", run, "--init", before, *options).code == 0
    shutil.rmtree(run / "checkpoints")  # as if it had been killed before the first one

    moved = before.rename(tmp_path / "moved")
    lost = progan("train", "--run", run)
    assert lost == (
        78,
        "",
        f"progan: {run}: began with {before}, which is not there any more: give --init with its new place\n",
    )
    other = progan("train", "--run", run, "--init", moved / "snapshots" / "images-000000064.safetensors")
    assert (other.code, "has other weights than those that" in other.err) == (78, True)

    assert progan("train", "--run", run, "--init", moved).code == 0
    assert load_run(run).provenance["init"]["source"] == str(moved)
