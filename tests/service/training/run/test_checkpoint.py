"""Checkpoints are whole or not there, and are refused when they are damaged or another network's."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.training.run.checkpoint import (
    CheckpointError,
    DamagedCheckpointError,
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

    dtype, shape = np.dtype(np.float32), ()

    def tobytes(self) -> bytes:
        return bytes(4)

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


@pytest.mark.parametrize("bit", range(8))
def test_damage_is_found_or_does_no_harm_wherever_it_is(tmp_path: Path, bit: int) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    whole = path.read_bytes()
    unharmed = {name: array.tolist() for name, array in read_checkpoint(path).items()}
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
        found, refusal = _read(path)
        if refusal:
            assert refusal.startswith(f"{path}: ")
            assert "\n" not in refusal
        else:
            assert found == unharmed


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """What a checkpoint holds, or why it was refused."""
    try:
        return {name: array.tolist() for name, array in read_checkpoint(path).items()}, ""
    except CheckpointError as error:
        return {}, str(error)


def test_a_header_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images-000000008.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000, 9)}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kernel.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    with pytest.raises(CheckpointError, match="'kernel': its header promises 3600000000000 bytes of data, there are 8"):
        read_checkpoint(path)


def test_a_value_that_changed_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    content = dict(np.load(path))
    content["generator/kernel"][1, 1] += 0.125
    np.savez(path, **content)
    with pytest.raises(DamagedCheckpointError, match="its content does not fit its SHA-256"):
        read_checkpoint(path)


def test_a_checkpoint_under_another_name_is_none(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8)).rename(tmp_path / "images-000000900.npz")
    with pytest.raises(
        DamagedCheckpointError, match=r"\(it was made after 8 images, another number than in its name\)$"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "name",
    [
        "images-9.npz",
        "images-٠٠٠٠٠٠٠٠٩.npz",
        "images-000000900 (copy).npz",
        "images-000000900.npz.old",
        "images-+00000900.npz",
        "images-.npz",
    ],
)
def test_a_file_of_another_name_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    (tmp_path / name).write_bytes(b"a foreign file")
    assert latest_checkpoint(tmp_path) == path
    save_checkpoint(tmp_path, 16, arrays(16))
    save_checkpoint(tmp_path, 24, arrays(24))
    assert names_in(tmp_path) == sorted(["images-000000016.npz", "images-000000024.npz", name])


def test_a_directory_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "images-000000900.npz").mkdir()
    assert latest_checkpoint(tmp_path) is None


def test_damaged_ones_that_a_run_went_on_before_are_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 8, arrays(8))
    (tmp_path / "images-000000032.npz").write_bytes(b"PK half")
    save_checkpoint(tmp_path, 16, arrays(16))
    assert names_in(tmp_path) == ["images-000000008.npz", "images-000000016.npz"]


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'shape': (", b"{'descr' '<f4'}"], ids=["open", "no dictionary"])
def test_a_damaged_header_of_an_array_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "images-000000008.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stage.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("kept_bytes", [0, 10, 500, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept_bytes: int) -> None:
    path = save_checkpoint(tmp_path, 8, arrays(8))
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=rf"^{path}: not a readable checkpoint \(.+\)$"):
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
    with pytest.raises(CheckpointError, match="'images_shown': it holds Python objects, which are never read"):
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
    found = {"bias": np.float32([7.0]), "kernel": np.ones((2, 3), np.float32), "other": np.ones(1)}
    assign_variables(Path("file"), found, variables)
    assert variables["kernel"].numpy().tolist() == [[1, 1, 1], [1, 1, 1]]
    assert variables["bias"].numpy().tolist() == [7]


def test_a_missing_array_is_named_before_anything_changes(variables: dict[str, tf.Variable]) -> None:
    with pytest.raises(CheckpointError, match="^file: holds no bias; it belongs to another network$"):
        assign_variables(Path("file"), {"kernel": np.ones((2, 3), np.float32)}, variables)
    assert not variables["kernel"].numpy().any()


def test_an_array_of_another_shape_is_named_before_anything_changes(variables: dict[str, tf.Variable]) -> None:
    with pytest.raises(CheckpointError, match=r"^file: bias has shape \(2,\), not \(1,\); another network$"):
        assign_variables(
            Path("file"), {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}, variables
        )
    assert not variables["kernel"].numpy().any()


def test_an_array_of_another_type_is_named_before_anything_changes(variables: dict[str, tf.Variable]) -> None:
    with pytest.raises(CheckpointError, match="^file: bias has type float64, not float32$"):
        assign_variables(Path("file"), {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(1)}, variables)
    assert not variables["kernel"].numpy().any()
