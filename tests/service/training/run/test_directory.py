"""A run directory belongs to one configuration."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progan_service.errors import ConfigError
from progan_service.model.config import NetworkConfig
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.checkpoint import save_checkpoint
from progan_service.training.run.directory import RunBusyError, claim_run_directory, read_run_config

CONFIG = RunConfig(
    DatasetConfig("faces", 1000),
    NetworkConfig(resolution=32, fmap_base=1024, fmap_max=128),
    TrainingConfig(total_kimg=100, batch_sizes={4: 32, 16: 16}),
)


def with_training(**values: Any) -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **values))


def save(directory: Path, images_shown: int) -> None:
    stage, digest = np.array([4, 0]), np.array(CONFIG.digest)
    arrays = {"images_shown": np.array(images_shown), "stage": stage, "config_digest": digest}
    save_checkpoint(directory, images_shown, arrays)


def test_a_new_run_keeps_its_configuration_beside_itself(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    claim_run_directory(run, CONFIG)
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.json"]
    assert read_run_config(run) == CONFIG


def test_an_empty_directory_can_become_a_run(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    assert read_run_config(tmp_path) == CONFIG


def test_the_same_configuration_goes_on(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    (tmp_path / "checkpoints").mkdir()
    claim_run_directory(tmp_path, CONFIG)
    assert (tmp_path / "checkpoints").is_dir()


def test_a_length_that_is_passed_already_leaves_the_record_alone(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    save(tmp_path / "checkpoints", 40_016)
    claim_run_directory(tmp_path, with_training(total_kimg=40))
    assert read_run_config(tmp_path).training.total_kimg == 100
    claim_run_directory(tmp_path, with_training(total_kimg=41))
    assert read_run_config(tmp_path).training.total_kimg == 41


def test_a_foreign_file_among_the_checkpoints_says_nothing_of_its_length(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    save(tmp_path / "checkpoints", 40_016)
    (tmp_path / "checkpoints" / "images-999999999.npz").write_bytes(b"of something else")
    claim_run_directory(tmp_path, with_training(total_kimg=200))
    assert read_run_config(tmp_path).training.total_kimg == 200
    claim_run_directory(tmp_path, with_training(total_kimg=40))
    assert read_run_config(tmp_path).training.total_kimg == 200


HOLDING = """
import sys
from pathlib import Path
from progan_service.training.config import RunConfig
from progan_service.training.run.directory import claim_run_directory

claim_run_directory(Path(sys.argv[1]), RunConfig.from_json(sys.argv[2]))
print("mine", flush=True)
sys.stdin.read()
"""


def test_a_run_belongs_to_one_process_until_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path), CONFIG.to_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(RunBusyError, match="another process is training it; wait for it to end, or stop it$"):
            claim_run_directory(tmp_path, with_training(total_kimg=200))
        assert read_run_config(tmp_path) == CONFIG
        other.kill()
    claim_run_directory(tmp_path, CONFIG)


def test_a_run_may_become_longer_and_tick_more_often(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    claim_run_directory(tmp_path, with_training(total_kimg=200, tick_kimg={4: 1}, snapshot_ticks=5, metric_images=64))
    assert read_run_config(tmp_path).training.total_kimg == 200
    assert read_run_config(tmp_path).training.tick_kimg == {4: 1}
    assert read_run_config(tmp_path).training.snapshot_ticks == 5
    assert read_run_config(tmp_path).training.metric_images == 64


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    other = replace(with_training(seed=7, batch_sizes={4: 32, 16: 8}), network=replace(CONFIG.network, fmap_max=64))
    with pytest.raises(ConfigError) as caught:
        claim_run_directory(tmp_path, other)
    assert str(caught.value) == (
        f"{tmp_path}: began with other settings: --fmap-max was 128, is 64; "
        "--batch-sizes was 4:32,16:16, is 4:32,16:8; --seed was 0, is 7; "
        "to go on, leave out what differs (a --preset, too, if the value is from there), or name a new run"
    )
    assert read_run_config(tmp_path) == CONFIG


def test_keys_of_a_newer_release_stay_when_a_run_goes_on(tmp_path: Path) -> None:
    document = json.loads(CONFIG.to_json())
    del document["sha256"]
    document["training"]["warmth"] = 3
    (tmp_path / "config.json").write_text(json.dumps(document | {"host": "ada"}))
    claim_run_directory(tmp_path, with_training(total_kimg=200))
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["host"], written["training"]["warmth"], written["training"]["total_kimg"]) == ("ada", 3, 200)


def test_a_run_of_a_newer_release_is_refused_by_name(tmp_path: Path) -> None:
    document = json.loads(CONFIG.to_json()) | {"format_version": 2}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(
        ConfigError, match=rf"^{tmp_path}/config.json: was written by a newer release \(format_version 2;"
    ):
        claim_run_directory(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text()) == document


def test_other_data_are_refused(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    with pytest.raises(ConfigError, match="dataset.image_count was 1000, is 999; go on with"):
        claim_run_directory(tmp_path, replace(CONFIG, dataset=DatasetConfig("faces", 999)))
    with pytest.raises(ConfigError, match="dataset.digest was '', is 'ffff'; go on with"):
        claim_run_directory(tmp_path, replace(CONFIG, dataset=DatasetConfig("faces", 1000, digest="ffff")))


def test_changed_parts_of_the_dataset_are_named(tmp_path: Path) -> None:
    def with_parts(**parts: str) -> RunConfig:
        return replace(CONFIG, dataset=DatasetConfig("faces", 1000, parts=parts))

    begun = with_parts(**{"4x4": "aa", "8x8": "bb", "labels": "cc"})
    claim_run_directory(tmp_path, begun)
    claim_run_directory(tmp_path, begun)
    with pytest.raises(ConfigError) as refused:
        claim_run_directory(tmp_path, with_parts(**{"4x4": "aa", "8x8": "b0", "labels": "c0"}))
    assert str(refused.value) == (
        f"{tmp_path}: began with other data: the dataset faces has other 8x8 images, labels; go on with the same or "
        "name a new run"
    )


def test_a_run_of_an_earlier_commit_gets_the_parts_of_its_dataset(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    now = replace(CONFIG, dataset=DatasetConfig("faces", 1000, parts={"4x4": "aa"}))
    claim_run_directory(tmp_path, now)
    assert read_run_config(tmp_path).dataset.parts == {"4x4": "aa"}
    assert CONFIG.digest in now.digests
    assert now.digest not in CONFIG.digests


def test_the_same_labels_go_on_and_others_are_refused(tmp_path: Path) -> None:
    labelled, other = (
        replace(CONFIG, dataset=DatasetConfig("faces", 1000, label_names=names)) for names in (("a", "b"), ("a", "c"))
    )
    claim_run_directory(tmp_path, labelled)
    claim_run_directory(tmp_path, labelled)
    with pytest.raises(ConfigError, match=r"dataset.label_names was \('a', 'b'\), is \('a', 'c'\); go on with"):
        claim_run_directory(tmp_path, other)


def test_a_number_may_be_written_in_another_way(tmp_path: Path) -> None:
    claim_run_directory(tmp_path, CONFIG)
    claim_run_directory(tmp_path, with_training(stable_kimg=600.0))
    assert read_run_config(tmp_path).digest == CONFIG.digest


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(
        ConfigError, match=f"^{tmp_path}: exists and is not a training run; give a new or empty directory$"
    ):
        claim_run_directory(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="/file: exists and is not a training run"):
        claim_run_directory(file, CONFIG)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\xfe"])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{tmp_path}/config.json: "):
        claim_run_directory(tmp_path, CONFIG)


def test_a_start_that_was_killed_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".config.json.0123abcd.partial").write_text('{"netw')
    claim_run_directory(tmp_path, CONFIG)
    assert read_run_config(tmp_path) == CONFIG
