"""Images to measure come from a run or from an exported version: the same ones."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.errors import ConfigError
from progan_service.export.exportable import Exportable
from progan_service.export.version import export_version
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.sources.fakes import Fakes, FakesError
from progan_service.sources.run import load_run
from progan_service.store.errors import ModelStoreError
from progan_service.store.store import ModelStore
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from progan_service.training.run.directory import claim_run_directory
from progan_service.training.state import TrainingState

WITHOUT_LABELS = np.zeros((20, 0), np.float32)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """The finished run, exported."""
    return exported(finished_run, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def labelled_run(tmp_path_factory: pytest.TempPathFactory, run_config: RunConfig) -> Path:
    """A run with labels and mirrored images that has not taken a step yet."""
    run = tmp_path_factory.mktemp("runs") / "labelled"
    config = replace(
        run_config,
        dataset=replace(run_config.dataset, label_names=("no glasses", "glasses")),
        network=replace(run_config.network, label_size=2),
        training=replace(run_config.training, mirror=True),
    )
    claim_run_directory(run, config)
    TrainingState.fresh(config).save(run / "checkpoints")
    return run


def exported(run: Path, store: Path) -> Path:
    version = export_version(Exportable.of(load_run(run)), ModelStore(store), "faces")
    return ModelStore(store).path("faces", version)


def drawn(fakes: Fakes, labels: NDArray[np.float32] = WITHOUT_LABELS) -> NDArray[np.uint8]:
    latents = latents_from_seeds(seed_range(0, len(labels)), fakes.latent_size)
    return np.concatenate(list(fakes.draw(latents, labels)))


def facts(fakes: Fakes) -> tuple[int, int, int, bool]:
    return fakes.resolution, fakes.latent_size, fakes.label_size, fakes.mirror


def test_a_run_and_its_exported_version_draw_the_same_images(finished_run: Path, version: Path) -> None:
    of_run, of_version = Fakes.open(finished_run), Fakes.open(version)
    assert facts(of_run) == facts(of_version) == (8, 8, 0, False)
    images = drawn(of_run)
    assert (images.dtype, images.shape) == (np.uint8, (20, 8, 8, 3))
    np.testing.assert_array_equal(drawn(of_version), images)


def test_labels_and_mirroring_are_known_of_both(labelled_run: Path, tmp_path: Path) -> None:
    of_run, of_version = Fakes.open(labelled_run), Fakes.open(exported(labelled_run, tmp_path))
    assert facts(of_run) == facts(of_version) == (4, 8, 2, True)
    labels = np.eye(2, dtype=np.float32)[[0, 1] * 10]
    images = drawn(of_run, labels)
    np.testing.assert_array_equal(drawn(of_version, labels), images)
    assert not np.array_equal(drawn(of_run, labels[::-1]), images)


def test_a_run_is_measured_where_its_growth_has_come_to(copied_run: Path) -> None:
    arrays = read_checkpoint(copied_run / "checkpoints" / "images-000000224.npz")
    shutil.rmtree(copied_run / "checkpoints")
    save_checkpoint(copied_run / "checkpoints", 32, arrays | {"images_shown": np.array(32)})
    fakes = Fakes.open(copied_run)
    assert fakes.resolution == 4
    assert drawn(fakes).shape == (20, 4, 4, 3)


def test_a_version_of_unknown_origin_was_not_mirrored(tiny_store: Path) -> None:
    assert facts(Fakes.open(tiny_store / "tiny" / "1")) == (8, 16, 0, False)


def test_a_version_can_be_named_by_a_link_or_from_within(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "newest").symlink_to(version)
    assert Fakes.open(tmp_path / "newest").resolution == 8
    monkeypatch.chdir(version)
    assert Fakes.open(Path(".")).resolution == 8


# Neither


def test_a_directory_of_something_else_is_neither(tmp_path: Path) -> None:
    with pytest.raises(
        FakesError,
        match=rf"^{tmp_path}: neither a training run \(no config.json\) nor a version of a model "
        r"\(no progan.json\); give a run, STORE/MODEL/VERSION, or a file: a snapshot or other weights, "
        r"NVIDIA's .pkl, PyTorch's .pth$",
    ):
        Fakes.open(tmp_path)


def test_a_path_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(FakesError, match=f"^{tmp_path}/none: no such file or directory; give a run, STORE/MODEL/"):
        Fakes.open(tmp_path / "none")


def test_a_version_that_was_moved_out_of_its_store_is_none(version: Path, tmp_path: Path) -> None:
    for name in ("faces-1", "01"):
        moved = shutil.copytree(version, tmp_path / name)
        advice = f"{moved}: not in a model store; give STORE/MODEL/VERSION, VERSION a number from 1 on"
        with pytest.raises(ModelStoreError, match=f"^{advice}$"):
            Fakes.open(moved)


def test_damage_is_named(copied_run: Path, version: Path, tmp_path: Path) -> None:
    newest = copied_run / "checkpoints" / "images-000000224.npz"
    newest.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=f"^{newest}: not a readable checkpoint"):
        Fakes.open(copied_run)
    (copied_run / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"^{copied_run}/config.json: not a run configuration"):
        Fakes.open(copied_run)

    copied_version = Path(shutil.copytree(version, tmp_path / "store" / "faces" / "1"))
    variables = copied_version / "variables" / "variables.data-00000-of-00001"
    os.truncate(variables, 100)
    with pytest.raises(ModelStoreError, match=f"^{variables}: differs from what was published"):
        Fakes.open(copied_version)
    (copied_version / "saved_model.pb").unlink()
    with pytest.raises(ModelStoreError, match=f"^{copied_version}/saved_model.pb: missing, but listed in progan.json"):
        Fakes.open(copied_version)
    (copied_version / "progan.json").write_text("{}")
    with pytest.raises(ModelStoreError, match=f"^{copied_version}/progan.json: not readable as model metadata"):
        Fakes.open(copied_version)
