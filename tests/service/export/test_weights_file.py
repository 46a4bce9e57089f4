"""A trained generator travels in a file, bit for bit; what is damaged or no generator is refused with a sentence."""

import hashlib
import json
import re
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.errors import FileError
from progan_service.export import weights_file as weights
from progan_service.export.trained import TrainedGenerator
from progan_service.export.weights_file import WeightsError, load_weights, save_weights
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.networks import Generator

FORMATS = [".safetensors", ".npz"]
PROVENANCE = {
    "source": "test",
    "images_shown": 96,
    "training": {"batch_sizes": {"4": 8}},
    "dataset": {"name": "Früchte"},
}

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def trained() -> TrainedGenerator:
    """8x8 RGB with two labels, 8x8 having faded in to three eighths."""
    keras.utils.set_random_seed(1)
    network = NetworkConfig(resolution=8, label_size=2, fmap_base=32, fmap_max=8)
    return TrainedGenerator(
        Generator(network, name="generator_ema"), 8, 0.375, ("round", "square"), PROVENANCE, {}, "attributes"
    )


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to write a weights file, in either format."""
    return tmp_path / f"faces{request.param}"


def names_in(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def bits(trained: TrainedGenerator) -> list[bytes]:
    return [weight.numpy().tobytes() for weight in trained.generator.weights]


def read(path: Path) -> tuple[Any, Arrays]:
    """The JSON object and the arrays of a weights file, as any program can read them."""
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        return json.loads(str(arrays.pop("progan"))), arrays
    with safetensors.safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["progan"]), safetensors.numpy.load_file(path)


def write(path: Path, document: Any, arrays: Arrays) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    if path.suffix == ".npz":
        entries: dict[str, Any] = {"progan": np.array(text), **arrays}
        np.savez(path, **entries)
    else:
        safetensors.numpy.save_file(arrays, path, {"progan": text})


def rewrite(path: Path, trained: TrainedGenerator, change: Callable[[Any, Arrays], Any]) -> None:
    """A weights file whose content `change` has had a hand in."""
    save_weights(trained, path)
    document, arrays = read(path)
    del document["sha256"]
    change(document, arrays)
    write(path, document, arrays)


# There and back


def test_a_generator_comes_back_bit_for_bit(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    loaded = load_weights(path)
    assert bits(loaded) == bits(trained)
    assert loaded.generator.config == trained.generator.config
    assert (loaded.resolution, loaded.alpha) == (8, 0.375)
    assert (loaded.label_names, loaded.label_kind) == (("round", "square"), "attributes")


def test_it_draws_the_same_images(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    latents = tf.constant(latents_from_seeds(seed_range(0, 4), 8))
    labels, alpha = tf.one_hot([0, 1, 0, 1], 2), tf.constant(0.375)
    before, after = (
        one.generator(latents, labels, resolution=8, alpha=alpha).numpy() for one in (trained, load_weights(path))
    )
    np.testing.assert_array_equal(before, after)


def test_numbers_at_the_edge_of_float32_stay_what_they_are(path: Path) -> None:
    generator = Generator(NetworkConfig(resolution=4, fmap_base=8, fmap_max=4))
    edge = np.array([-0.0, 1e-45, -3.4028235e38, 1.1754944e-38], np.float32)
    generator.input_block.bias.assign(edge)
    save_weights(TrainedGenerator(generator, 4, 1.0, (), {"source": "test"}), path)
    assert load_weights(path).generator.input_block.bias.numpy().tobytes() == edge.tobytes()


def test_a_weights_file_is_open_to_any_program(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    document, arrays = read(path)
    assert re.fullmatch("[0-9a-f]{64}", document.pop("sha256"))
    assert document == {
        "format_version": 1,
        "network": {
            "resolution": 8,
            "channels": 3,
            "label_size": 2,
            "fmap_base": 32,
            "fmap_max": 8,
            "latent_size": 0,
            "d_pool": "pre_act",
            "pixelnorm_epsilon": 1e-08,
            "first_bias": "channel",
        },
        "resolution": 8,
        "alpha": 0.375,
        "label_names": ["round", "square"],
        "provenance": PROVENANCE,
        "label_kind": "attributes",
    }
    assert {name: array.shape for name, array in arrays.items()} == {
        "4x4/bias": (8,),
        "4x4/dense/kernel": (10, 128),
        "4x4/conv/kernel": (3, 3, 8, 8),
        "4x4/conv/bias": (8,),
        "8x8/conv0/kernel": (3, 3, 8, 8),
        "8x8/conv0/bias": (8,),
        "8x8/conv1/kernel": (3, 3, 8, 8),
        "8x8/conv1/bias": (8,),
        "to_rgb_4x4/kernel": (1, 1, 8, 3),
        "to_rgb_4x4/bias": (3,),
        "to_rgb_8x8/kernel": (1, 1, 8, 3),
        "to_rgb_8x8/bias": (3,),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_the_same_generator_makes_the_same_file(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    first = path.read_bytes()
    save_weights(trained, path)
    assert path.read_bytes() == first


def test_a_compressed_npz_is_read_too(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    save_weights(trained, path)
    np.savez_compressed(path, **dict(np.load(path)))
    assert bits(load_weights(path)) == bits(trained)


def test_an_alpha_may_be_written_as_a_whole_number(trained: TrainedGenerator, path: Path) -> None:
    rewrite(path, trained, lambda document, _: document.update(alpha=0))
    assert str(load_weights(path).alpha) == "0.0"


# Where it comes from


def test_its_provenance_names_the_file_and_loses_nothing(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_weights(path).provenance == PROVENANCE | {"weights_file": path.name, "weights_sha256": sha256}


def test_a_file_made_from_a_file_names_both(trained: TrainedGenerator, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.safetensors", "b.npz", "c.safetensors"))
    save_weights(trained, first)
    save_weights(load_weights(first), second)
    save_weights(load_weights(second), third)
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second, third)}
    assert load_weights(third).provenance == PROVENANCE | {
        "weights_file": "c.safetensors",
        "weights_sha256": sha256["c.safetensors"],
        "weights_made_from": {
            "weights_file": "b.npz",
            "weights_sha256": sha256["b.npz"],
            "weights_made_from": {"weights_file": "a.safetensors", "weights_sha256": sha256["a.safetensors"]},
        },
    }


# Writing


def test_the_directory_of_a_weights_file_is_made(trained: TrainedGenerator, tmp_path: Path) -> None:
    save_weights(trained, tmp_path / "new" / "place" / "faces.npz")
    assert names_in(tmp_path / "new" / "place") == ["faces.npz"]


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(FileError, match=f"^{path}: the file would be larger than the limit on file sizes; "):
            save_weights(replace(trained, alpha=0.5), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names_in(path.parent) == [path.name]
    assert load_weights(path).alpha == 0.375


@pytest.mark.parametrize("name", ["faces", "faces.pkl", "faces.safetensors.bak", "faces.NPZ"])
def test_another_suffix_is_refused_in_both_directions(trained: TrainedGenerator, tmp_path: Path, name: str) -> None:
    sentence = f"^{tmp_path}/{name}: is no weights file by its name, which must end with .safetensors or .npz$"
    with pytest.raises(WeightsError, match=sentence):
        save_weights(trained, tmp_path / name)
    with pytest.raises(WeightsError, match=sentence):
        load_weights(tmp_path / name)
    assert names_in(tmp_path) == []


# Files that are damaged, or something else


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(WeightsError, match=f"^{path}: no such file$"):
        load_weights(path)
    path.mkdir()
    with pytest.raises(WeightsError, match=f"^{path}: is no file$"):
        load_weights(path)


@pytest.mark.parametrize("kept_bytes", [0, 5, 300, 5000, -1])
def test_a_truncated_file_is_refused(trained: TrainedGenerator, path: Path, kept_bytes: int) -> None:
    save_weights(trained, path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(WeightsError, match=rf"^{path}: not a readable weights file \(.+\)$"):
        load_weights(path)


def test_a_damaged_value_in_an_npz_is_found(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    save_weights(trained, path)
    whole, kernel = path.read_bytes(), trained.generator.input_block.dense.kernel.numpy().tobytes()
    place = whole.index(kernel) + 100
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(
        WeightsError, match=r"not a readable weights file \(Bad CRC-32 for file '4x4/dense/kernel.npy'\)"
    ):
        load_weights(path)


def test_its_digest_is_that_of_what_it_says(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    document, arrays = read(path)
    found = document.pop("sha256")
    content = hashlib.sha256()
    for name in sorted([*arrays, "progan"]):
        text = np.array(json.dumps(document))
        array = text if name == "progan" else arrays[name]
        content.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    assert found == content.hexdigest()


@pytest.mark.parametrize("name", ["4x4/dense/kernel", "to_rgb_8x8/bias"])
def test_a_value_that_changed_is_noticed(trained: TrainedGenerator, path: Path, name: str) -> None:
    save_weights(trained, path)
    document, arrays = read(path)
    changed = arrays[name].copy()
    changed.flat[3 % changed.size] += 0.125
    write(path, document, arrays | {name: changed})
    with pytest.raises(WeightsError) as refused:
        load_weights(path)
    assert str(refused.value) == f"{path}: its content does not fit its sha256: it is damaged; write or copy it again"


def test_a_description_that_changed_is_noticed(trained: TrainedGenerator, path: Path) -> None:
    save_weights(trained, path)
    document, arrays = read(path)
    write(path, document | {"alpha": 0.25}, arrays)
    with pytest.raises(WeightsError, match="its content does not fit its sha256: it is damaged"):
        load_weights(path)


def test_a_file_without_a_digest_is_read(trained: TrainedGenerator, path: Path) -> None:
    rewrite(path, trained, lambda *_: None)
    assert bits(load_weights(path)) == bits(trained)


def test_pickled_objects_are_never_read(trained: TrainedGenerator, tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    rewrite(path, trained, lambda _, arrays: arrays.update({"4x4/bias": np.array([print], object)}))
    with pytest.raises(
        WeightsError, match=r"not a readable weights file \('4x4/bias': it holds Python objects, which are never read\)"
    ):
        load_weights(path)


def test_a_single_array_is_no_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(WeightsError, match=rf"^{path}: not a readable weights file \(File is not a zip file\)$"):
        load_weights(path)


def test_arrays_of_something_else_are_no_weights_file(path: Path) -> None:
    arrays = {"4x4/bias": np.zeros(8, np.float32)}
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        safetensors.numpy.save_file(arrays, path)
    with pytest.raises(WeightsError, match=f"^{path}: holds no 'progan', which describes the network"):
        load_weights(path)


def test_more_than_any_generator_needs_is_not_read(
    trained: TrainedGenerator, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(trained, path)
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    with pytest.raises(WeightsError, match=r"not a readable weights file \(.*\d+( bytes)?: must be at most 5000\)"):
        load_weights(path)


def test_neither_is_what_compression_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faces.npz"
    np.savez_compressed(path, zeros=np.zeros(10_000_000, np.float32))
    monkeypatch.setattr(weights, "MAX_BYTES", 1_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"\(its arrays take 40000128 bytes: must be at most 1000000\)"):
        load_weights(path)


# Generators that are none


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"format_version": 2},
            "was written by a newer release (format_version 2; this release reads 1): "
            "upgrade progan-service to read it",
        ),
        ({"format_version": None}, "format_version is None: must be a whole number from 1 on"),
        ({"resolution": 16}, "resolution is 16: must be one of 4, 8"),
        ({"resolution": 8.0}, "resolution is 8.0: must be a whole number"),
        ({"alpha": 1.5}, "alpha is 1.5: must be a number from 0 to 1"),
        ({"alpha": float("nan")}, "alpha is nan: must be a number from 0 to 1"),
        ({"alpha": "1"}, "alpha is '1': must be a number"),
        ({"label_names": ["round"]}, "label_names is ['round']: must be a name for each of 2 labels, or none"),
        ({"label_names": [1, 2]}, "label_names[0] is 1: must be text"),
        ({"label_names": "ab"}, "label_names is 'ab': must be a list"),
        ({"label_kind": "moods"}, "label_kind is 'moods': must be classes or attributes"),
        ({"provenance": {}}, "provenance is {}: must be an object with source"),
        ({"provenance": []}, "provenance is []: must be an object of names and values"),
        ({"network": 8}, "network is 8: must be an object of names and values"),
        ({"network": {}}, "holds no network.resolution"),
        ({"network.resolution": 12}, "resolution is 12: must be a power of two from 4 to 1024"),
        ({"network.resolution": "8"}, "network.resolution is '8': must be a whole number"),
        ({"network.channels": True}, "network.channels is True: must be a whole number"),
        ({"network.fmap_base": 32.5}, "network.fmap_base is 32.5: must be a whole number"),
        ({"network.fmap_max": 0}, "fmap_max is 0: must be 1 or more"),
        ({"network.d_pool": None}, "network.d_pool is None: must be text"),
        ({"network.fmap_max": 4}, "shape of 4x4/dense/kernel is (10, 128): the network needs (6, 64)"),
        (
            {"network.fmap_base": 10**9, "network.fmap_max": 10**9},  # would take petabytes
            "shape of 4x4/dense/kernel is (10, 128): the network needs (1000000002, 8000000000)",
        ),
        (
            {"network.label_size": 3, "label_names": []},
            "shape of 4x4/dense/kernel is (10, 128): the network needs (11, 128)",
        ),
        ({"network.resolution": 16}, "holds no 16x16/conv0/kernel, which the network needs"),
        ({"network.channels": 1}, "shape of to_rgb_4x4/kernel is (1, 1, 8, 3): the network needs (1, 1, 8, 1)"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    trained: TrainedGenerator, path: Path, changes: dict[str, Any], sentence: str
) -> None:
    def change(document: Any, _: Arrays) -> None:
        for name, value in changes.items():
            *parts, setting = name.split(".")
            (document[parts[0]] if parts else document)[setting] = value

    rewrite(path, trained, change)
    with pytest.raises(WeightsError) as refused:
        load_weights(path)
    assert str(refused.value) == f"{path}: {sentence}"


def test_a_file_written_by_a_newer_release_is_read_and_its_keys_are_kept(trained: TrainedGenerator, path: Path) -> None:
    def change(document: Any, _: Arrays) -> None:
        document["mood"] = "calm"
        document["network"]["warmth"] = 3

    rewrite(path, trained, change)
    loaded = load_weights(path)
    assert bits(loaded) == bits(trained)
    save_weights(loaded, path)
    document, _ = read(path)
    assert (document["mood"], document["network"]["warmth"], document["network"]["resolution"]) == ("calm", 3, 8)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 .char 1."),
        ("[" * 100_000, "is nested too deep: must have at most 20 objects and lists within each other"),
        ("[1]", r"holds \[1\]: must be an object of names and values"),
        ('{"format_version": 1, "alpha": 1}', "holds no network"),
    ],
)
def test_a_description_that_is_none_is_refused(path: Path, text: str, sentence: str) -> None:
    write(path, text, {"4x4/bias": np.zeros(8, np.float32)})
    with pytest.raises(WeightsError, match=f"^{path}: {sentence}$"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("4x4/bias", None, "holds no 4x4/bias, which the network needs"),
        ("4x4/dense/kernel", None, "holds no 4x4/dense/kernel, which the network needs"),
        ("16x16/bias", np.zeros(8, np.float32), "holds '16x16/bias', for which the network has no place"),
        ("a\nb", np.zeros(8, np.float32), "holds 'a\\nb', for which the network has no place"),
        ("4x4/bias", np.zeros((8, 1), np.float32), "shape of 4x4/bias is (8, 1): the network needs (8,)"),
        (
            "4x4/bias",
            np.array([0, 0, np.nan, 0, np.inf, 0, 0, 0], np.float32),
            "4x4/bias holds nan: all its values must be finite",
        ),
        ("4x4/bias", np.full(8, -np.inf, np.float32), "4x4/bias holds -inf: all its values must be finite"),
    ],
)
def test_weights_that_are_not_the_networks_own_are_refused(
    trained: TrainedGenerator, path: Path, name: str, array: NDArray[Any] | None, sentence: str
) -> None:
    def change(_: Any, arrays: Arrays) -> None:
        arrays.pop(name, None)
        if array is not None:
            arrays[name] = array

    rewrite(path, trained, change)
    with pytest.raises(WeightsError) as refused:
        load_weights(path)
    assert str(refused.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("kind", "short"), [("float64", "F64"), ("float16", "F16"), ("int32", "I32"), ("bool", "BOOL")]
)
def test_weights_of_another_type_are_refused(trained: TrainedGenerator, tmp_path: Path, kind: str, short: str) -> None:
    def change(_: Any, arrays: Arrays) -> None:
        arrays["4x4/bias"] = arrays["4x4/bias"].astype(kind)

    for path, sentence in [
        (tmp_path / "faces.npz", f"type of 4x4/bias is '{kind}': must be float32"),
        (
            tmp_path / "faces.safetensors",
            f"not a readable weights file (type of '4x4/bias' is '{short}': must be F32)",
        ),
    ]:
        rewrite(path, trained, change)
        with pytest.raises(WeightsError) as refused:
            load_weights(path)
        assert str(refused.value) == f"{path}: {sentence}"
