"""A training run becomes a generator that can be exported."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from progan_service.errors import ConfigError
from progan_service.sources.run import load_run
from progan_service.training.config import RunConfig
from progan_service.training.run.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from progan_service.training.run.directory import claim_run_directory


def test_the_averaged_generator_of_the_newest_checkpoint(finished_run: Path) -> None:
    trained = load_run(finished_run)
    arrays = read_checkpoint(finished_run / "checkpoints" / "images-000000224.npz")
    assert len(trained.generator.weights) == 12
    for weight in trained.generator.weights:
        assert weight.path.startswith("generator_ema/")
        np.testing.assert_array_equal(weight, arrays[weight.path])


def test_a_finished_run_is_at_its_final_resolution(finished_run: Path) -> None:
    trained = load_run(finished_run)
    assert (trained.resolution, trained.alpha) == (8, 1.0)


@pytest.mark.parametrize(
    ("images_shown", "resolution", "alpha"), [(32, 4, 1.0), (64, 4, 1.0), (80, 8, 0.25), (128, 8, 1.0)]
)
def test_an_unfinished_run_is_where_its_growth_has_come_to(
    copied_run: Path, images_shown: int, resolution: int, alpha: float
) -> None:
    arrays = read_checkpoint(copied_run / "checkpoints" / "images-000000224.npz")
    for old in (copied_run / "checkpoints").iterdir():
        old.unlink()
    save_checkpoint(copied_run / "checkpoints", images_shown, arrays | {"images_shown": np.array(images_shown)})
    trained = load_run(copied_run)
    assert (trained.resolution, trained.alpha) == (resolution, alpha)
    assert trained.provenance["images_shown"] == images_shown


def test_a_run_without_labels_has_no_names_for_them(finished_run: Path) -> None:
    assert load_run(finished_run).label_names == ()


def test_the_names_of_the_labels_come_along(copied_run: Path, run_config: RunConfig) -> None:
    assert load_run(copied_run).label_kind == "classes"
    dataset = replace(run_config.dataset, label_names=("round", "square"), label_kind="attributes")
    _rewrite(copied_run, replace(run_config, dataset=dataset))
    assert load_run(copied_run).label_names == ("round", "square")
    assert load_run(copied_run).label_kind == "attributes"


def test_its_provenance_says_how_it_was_trained(finished_run: Path, run_config: RunConfig) -> None:
    assert load_run(finished_run).provenance == {
        "source": "progan train",
        "images_shown": 224,
        "dataset": {
            "name": "faces",
            "image_count": 48,
            "digest": "",
            "label_names": (),
            "parts": {},
            "label_kind": "classes",
        },
        "network": asdict(run_config.network),
        "training": asdict(run_config.training),
    }


def test_its_licence_is_that_of_the_dataset(copied_run: Path, run_config: RunConfig) -> None:
    licensed = replace(run_config, dataset=replace(run_config.dataset, license="CC0"))
    (copied_run / "config.json").write_text(licensed.to_json())
    provenance = load_run(copied_run).provenance
    assert provenance["license"] == "CC0"
    assert provenance["dataset"].keys() == {"name", "image_count", "digest", "label_names", "parts", "label_kind"}


def test_a_directory_of_something_else_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=rf"^{tmp_path}: not a training run \(no config.json\); give the directory of `progan train --run`$",
    ):
        load_run(tmp_path)


def test_a_run_without_a_checkpoint_says_when_one_comes(tmp_path: Path, run_config: RunConfig) -> None:
    claim_run_directory(tmp_path, run_config)
    with pytest.raises(
        CheckpointError, match=f"^{tmp_path}: no checkpoint yet; the first one comes with the first tick$"
    ):
        load_run(tmp_path)


def test_a_damaged_checkpoint_is_named(copied_run: Path) -> None:
    (copied_run / "checkpoints" / "images-000000224.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="/checkpoints/images-000000224.npz: not a readable checkpoint"):
        load_run(copied_run)


def test_a_damaged_configuration_is_named(copied_run: Path) -> None:
    (copied_run / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=f"^{copied_run}/config.json: not a run configuration"):
        load_run(copied_run)


def test_a_checkpoint_of_another_network_is_refused(copied_run: Path, run_config: RunConfig) -> None:
    wider = replace(run_config, network=replace(run_config.network, fmap_max=16))
    _rewrite(copied_run, wider)
    with pytest.raises(CheckpointError, match=r"generator_ema/\S+ has shape .*; another network$"):
        load_run(copied_run)


def test_a_checkpoint_of_another_configuration_is_refused(copied_run: Path, run_config: RunConfig) -> None:
    other = replace(run_config, training=replace(run_config.training, gp_weight=11))
    (copied_run / "config.json").write_text(other.to_json())
    with pytest.raises(
        CheckpointError, match="224.npz: belongs to a run with another configuration than that of config.json$"
    ):
        load_run(copied_run)


def _rewrite(run: Path, config: RunConfig) -> None:
    """Give a run another configuration, as if it had been begun with it."""
    (run / "config.json").write_text(config.to_json())
    arrays = read_checkpoint(run / "checkpoints" / "images-000000224.npz")
    save_checkpoint(run / "checkpoints", 224, arrays | {"config_digest": np.array(config.digest)})
