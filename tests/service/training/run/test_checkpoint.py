"""Checkpoints are whole or not there, and are refused when they are damaged or another network's."""

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.training.run.checkpoint import (
    CheckpointError,
    assign_variables,
    latest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)


def arrays(images_shown: int) -> dict[str, NDArray[np.generic]]:
    return {
        "generator/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) * images_shown,
        "images_shown": np.array(images_shown),
        "stage": np.array((4, False)),
        "config_digest": np.array("0f1e"),
    }


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "checkpoints", 96, arrays(96))
    assert path == tmp_path / "checkpoints" / "images-000000096.npz"
    found = read_checkpoint(path)
    assert sorted(found) == ["config_digest", "generator/kernel", "images_shown", "stage"]
    assert str(found["config_digest"]) == "0f1e"
    np.testing.assert_array_equal(found["generator/kernel"], [[0, 96, 192], [288, 384, 480]])
    assert found["generator/kernel"].dtype == np.float32


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for images_shown in (8, 16, 100, 1000):
        save_checkpoint(tmp_path, images_shown, arrays(images_shown))
    assert names_in(tmp_path) == ["images-000000100.npz", "images-000001000.npz"]
    assert latest_checkpoint(tmp_path) == tmp_path / "images-000001000.npz"


def test_where_nothing_was_saved_there_is_no_latest(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


class Interruption:
    """An array at whose writing the process ends."""

    def __array__(self, *_: object, **__: object) -> NDArray[np.generic]:
        raise SystemExit("killed")


def test_an_end_in_the_middle_of_a_save_leaves_the_earlier_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 8, arrays(8))
    with pytest.raises(SystemExit, match="killed"):
        save_checkpoint(tmp_path, 16, arrays(16) | {"last": Interruption()})  # type: ignore[dict-item]
    newest = latest_checkpoint(tmp_path)
    assert newest == tmp_path / "images-000000008.npz"
    assert int(read_checkpoint(newest)["images_shown"]) == 8


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".images-000000008.npz.0123abcd.partial").write_bytes(b"PK half")
    assert latest_checkpoint(tmp_path) is None


def test_damage_is_found_or_does_no_harm_wherever_it_is(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    whole = path.read_bytes()
    unharmed = {name: array.tolist() for name, array in read_checkpoint(path).items()}
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :])
        with suppress(CheckpointError):
            assert {name: array.tolist() for name, array in read_checkpoint(path).items()} == unharmed


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'shape': (", b"{'descr' '<f4'}"], ids=["open", "no dictionary"])
def test_a_damaged_header_of_an_array_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "images-000000008.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stage.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("kept_bytes", [0, 10, 500, -1])
def test_a_truncated_file_is_refused_with_a_way_out(tmp_path: Path, kept_bytes: int) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=rf"{path}: not .*; remove it to go on from the one before$"):
        read_checkpoint(path)


def test_a_foreign_array_file_is_refused(tmp_path: Path) -> None:
    path, single = tmp_path / "images-000000008.npz", io.BytesIO()
    np.save(single, np.zeros(3))
    path.write_bytes(single.getvalue())
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("missing", ["images_shown", "stage", "config_digest"])
def test_arrays_without_progress_are_no_checkpoint(tmp_path: Path, missing: str) -> None:
    path = save_checkpoint(tmp_path, 8, {name: array for name, array in arrays(8).items() if name != missing})
    with pytest.raises(CheckpointError, match=rf"not a readable checkpoint \(holds no {missing}\)"):
        read_checkpoint(path)


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "images-000000008.npz"
    np.savez(path, images_shown=np.array([object()]), allow_pickle=True)
    with pytest.raises(CheckpointError, match="allow_pickle=False"):
        read_checkpoint(path)


def test_a_checkpoint_written_by_a_newer_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "images-000000008.npz"
    np.savez(path, format_version=1, warmth=np.ones(3), **arrays(8))
    found = read_checkpoint(path)
    assert int(found["images_shown"]) == 8
    assert "format_version" not in found


def test_a_checkpoint_of_a_higher_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "images-000000008.npz"
    np.savez(path, format_version=2, phase="a newer word for a stage")
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(path)
    assert str(refused.value) == (
        f"{path}: was written by a newer release (format_version 2; this release reads 1): "
        "upgrade progan-service to read it"
    )


@pytest.mark.parametrize("version", [0, 1.0, "1", [1, 1]])
def test_a_checkpoint_whose_version_is_none_is_damaged(tmp_path: Path, version: object) -> None:
    path = tmp_path / "images-000000008.npz"
    np.savez(path, format_version=version, **arrays(8))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=f"^{path}: not a readable checkpoint "):
        read_checkpoint(path)


def test_a_checkpoint_of_the_first_commits_has_no_version(tmp_path: Path) -> None:
    path = tmp_path / "images-000000008.npz"
    np.savez(path, **arrays(8))  # type: ignore[arg-type]
    assert int(read_checkpoint(path)["images_shown"]) == 8


def test_a_checkpoint_says_its_version(tmp_path: Path) -> None:
    assert int(np.load(save_checkpoint(tmp_path, 8, arrays(8)))["format_version"]) == 1


# Assigning


@pytest.fixture
def variables() -> dict[str, tf.Variable]:
    return {"kernel": tf.Variable(tf.zeros([2, 3])), "bias": tf.Variable([0.0])}


def test_variables_take_the_arrays_of_their_names(variables: dict[str, tf.Variable]) -> None:
    found = {"bias": np.array([7.0]), "kernel": np.ones((2, 3)), "other": np.ones(1)}
    assign_variables(Path("file"), found, variables)
    assert variables["kernel"].numpy().tolist() == [[1, 1, 1], [1, 1, 1]]
    assert variables["bias"].numpy().tolist() == [7]


def test_a_missing_array_is_named_before_anything_changes(variables: dict[str, tf.Variable]) -> None:
    with pytest.raises(CheckpointError, match="^file: holds no bias; it belongs to another network$"):
        assign_variables(Path("file"), {"kernel": np.ones((2, 3))}, variables)
    assert not variables["kernel"].numpy().any()


def test_an_array_of_another_shape_is_named_before_anything_changes(variables: dict[str, tf.Variable]) -> None:
    with pytest.raises(CheckpointError, match=r"^file: bias has shape \(2,\), not \(1,\); another network$"):
        assign_variables(Path("file"), {"kernel": np.ones((2, 3)), "bias": np.ones(2)}, variables)
    assert not variables["kernel"].numpy().any()
