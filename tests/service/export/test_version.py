"""A generator becomes a SavedModel that stands on its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from numpy.typing import NDArray
from PIL import Image

from progan_service.evaluation.psnr import psnr_db
from progan_service.export import exportable
from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.inference.generator import Arrangement
from progan_service.model.networks import Generator
from progan_service.model.pixels import to_uint8, to_unit_range
from progan_service.store.errors import ModelStoreError
from progan_service.store.store import ModelStore

GREY_LABELLED = NetworkConfig(resolution=8, channels=1, label_size=3, fmap_base=32, fmap_max=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def generator() -> Generator:
    """With a wide range of outputs, so that there is something to clip."""
    keras.utils.set_random_seed(1)
    return Generator(NetworkConfig(resolution=8, fmap_base=32, fmap_max=8))


@pytest.fixture(scope="module")
def version(store: ModelStore, generator: Generator) -> Path:
    return store.path("faces", exported(generator, store, "faces"))


@pytest.fixture(scope="module")
def loaded(version: Path) -> Any:
    return tf.saved_model.load(str(version))


@pytest.fixture(scope="module")
def signatures(loaded: Any) -> dict[str, Any]:
    return dict(loaded.signatures)


@pytest.fixture(scope="module")
def grey_labelled(store: ModelStore) -> tuple[Generator, Path]:
    keras.utils.set_random_seed(2)
    generator = Generator(GREY_LABELLED)
    names = ("round", "square", "flat")
    number = exported(generator, store, "grey", label_names=names)
    return generator, store.path("grey", number)


def exported(
    generator: Generator,
    store: ModelStore,
    name: str,
    *,
    resolution: int = 8,
    alpha: float = 1.0,
    label_names: tuple[str, ...] = (),
) -> int:
    trained = TrainedGenerator(generator, resolution, alpha, label_names, {"source": "test"})
    return export_version(Exportable.of(trained), store, name, invert=False)


def latents(count: int, size: int = 8) -> tf.Tensor:
    return tf.constant(latents_from_seeds(seed_range(100, count), size))


def picture(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


# Signatures


def test_the_signatures(signatures: dict[str, Any]) -> None:
    assert sorted(signatures) == ["differentiable", "generate_uint8", "generate_uint8_bfloat16", "serving_default"]
    for signature in signatures.values():
        (inputs,) = signature.structured_input_signature[1].values()
        assert (inputs.name, inputs.dtype, inputs.shape.as_list()) == ("latents", tf.float32, [None, 8])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("serving_default", tf.float32),
        ("generate_uint8", tf.uint8),
        ("generate_uint8_bfloat16", tf.uint8),
        ("differentiable", tf.float32),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_every_signature_gives_images(signatures: dict[str, Any], name: str, dtype: tf.DType, count: int) -> None:
    images = signatures[name](latents=latents(count))["images"]
    assert images.dtype == dtype
    assert images.shape == (count, 8, 8, 3)


def test_the_default_signature_clips_to_zero_and_one(signatures: dict[str, Any], generator: Generator) -> None:
    images = signatures["serving_default"](latents=latents(50))["images"].numpy()
    expected = np.clip((generator(latents(50), resolution=8).numpy() + 1) / 2, 0, 1)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert (images.min(), images.max()) == (0, 1)


def test_the_differentiable_signature_does_not_clip(signatures: dict[str, Any], generator: Generator) -> None:
    images = signatures["differentiable"](latents=latents(50))["images"].numpy()
    np.testing.assert_allclose(images, (generator(latents(50), resolution=8).numpy() + 1) / 2, atol=1e-5)
    assert images.min() < 0
    assert images.max() > 1


def test_the_differentiable_signature_has_a_gradient(signatures: dict[str, Any]) -> None:
    z = latents(2)
    with tf.GradientTape() as tape:
        tape.watch(z)
        brightness = tf.reduce_sum(signatures["differentiable"](latents=z)["images"])
    gradient = tape.gradient(brightness, z)
    assert gradient.shape == (2, 8)
    assert np.abs(gradient).min() > 0


def test_pixels_are_the_default_images_rounded(signatures: dict[str, Any]) -> None:
    pixels = signatures["generate_uint8"](latents=latents(50))["images"].numpy()
    images = signatures["serving_default"](latents=latents(50))["images"].numpy()
    assert np.abs(images * 255 - pixels).max() < 0.501


def test_pixels_in_bfloat16_are_nearly_the_same(signatures: dict[str, Any]) -> None:
    pixels = signatures["generate_uint8"](latents=latents(50))["images"].numpy()
    nearly = signatures["generate_uint8_bfloat16"](latents=latents(50))["images"].numpy()
    assert 40 < psnr_db(nearly, pixels) < 60


# What is published


def test_metadata_tell_sizes_and_provenance(store: ModelStore, version: Path) -> None:
    metadata = store.verify("faces", 1)
    assert (metadata.latent_size, metadata.resolution, metadata.channels, metadata.label_count) == (8, 8, 3, 0)
    assert metadata.provenance["source"] == "test"
    assert metadata.provenance["exported_at"].endswith("+00:00")


def test_metadata_tell_the_signatures_and_how_good_bfloat16_is(store: ModelStore, version: Path) -> None:
    metadata = store.metadata("faces", 1)
    assert metadata.signatures == (
        "serving_default",
        "generate_uint8",
        "differentiable",
        "generate_uint8_bfloat16",
    )
    assert metadata.bfloat16_psnr_db is not None
    assert 40 < metadata.bfloat16_psnr_db < 60
    assert metadata.algorithms == {}


def test_golden_pictures_are_what_the_loaded_model_gives(
    store: ModelStore, version: Path, signatures: dict[str, Any]
) -> None:
    golden = store.metadata("faces", 1).golden
    assert golden == {str(seed): f"golden/seed-{seed}.png" for seed in (0, 1, 2, 3)}
    z = tf.constant(latents_from_seeds(seed_range(0, 4), 8))
    pixels = signatures["generate_uint8"](latents=z)["images"].numpy()
    for seed, file in golden.items():
        np.testing.assert_array_equal(picture(version / file), pixels[int(seed)])


def test_every_file_is_listed_with_its_hash(store: ModelStore, version: Path) -> None:
    listed = store.metadata("faces", 1).files
    assert {"saved_model.pb", "variables/variables.index", "golden/seed-0.png"} < listed.keys()
    found = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert found == {*listed, "progan.json"}


def test_the_same_generator_again_is_the_next_version(store: ModelStore, generator: Generator, version: Path) -> None:
    assert exported(generator, store, "again") == 1
    assert exported(generator, store, "again") == 2


def test_a_bad_name_is_refused(store: ModelStore, generator: Generator) -> None:
    with pytest.raises(ModelStoreError, match="model name is '../faces'"):
        exported(generator, store, "../faces")


# Other generators


def test_in_the_middle_of_a_fade_the_blend_is_kept(store: ModelStore, generator: Generator) -> None:
    number = exported(generator, store, "fading", alpha=0.25)
    model = tf.saved_model.load(str(store.path("fading", number)))
    expected = to_unit_range(generator(latents(4), resolution=8, alpha=tf.constant(0.25)))
    np.testing.assert_allclose(model.signatures["serving_default"](latents=latents(4))["images"], expected, atol=1e-5)


def test_at_an_early_stage_images_are_small(store: ModelStore, generator: Generator) -> None:
    number = exported(generator, store, "early", resolution=4)
    model = tf.saved_model.load(str(store.path("early", number)))
    assert model.signatures["generate_uint8"](latents=latents(2))["images"].shape == (2, 4, 4, 3)
    assert store.metadata("early", number).resolution == 4
    assert picture(store.path("early", number) / "golden" / "seed-0.png").shape == (4, 4, 3)


def test_a_grey_labelled_generator(store: ModelStore, grey_labelled: tuple[Generator, Path]) -> None:
    generator, version = grey_labelled
    metadata = store.verify("grey", 1)
    assert (metadata.channels, metadata.label_count, metadata.label_names) == (1, 3, ("round", "square", "flat"))

    model = tf.saved_model.load(str(version))
    labels = tf.one_hot([0, 1, 2], 3)
    expected = to_unit_range(generator(latents(3), labels, resolution=8))
    made = model.signatures["serving_default"](latents=latents(3), labels=labels)["images"]
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert model.signatures["generate_uint8_bfloat16"](latents=latents(3), labels=labels)["images"].shape == (
        3,
        8,
        8,
        1,
    )


def test_golden_pictures_of_a_labelled_generator_show_the_first_label(grey_labelled: tuple[Generator, Path]) -> None:
    generator, version = grey_labelled
    z = tf.constant(latents_from_seeds(seed_range(3, 1), 8))
    expected = to_uint8(generator(z, tf.constant([[1.0, 0.0, 0.0]]), resolution=8))
    np.testing.assert_allclose(picture(version / "golden" / "seed-3.png"), expected[0, :, :, 0], atol=1)


def test_what_is_fastest_on_a_cpu_has_a_signature_of_its_own(
    store: ModelStore, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"8x8/conv0": "by phase", "8x8/conv1": "direct"}
    monkeypatch.setattr(
        exportable,
        "tuned_for_cpu",
        lambda network, *_: (network.with_last({8: network.blocks[8]}, Arrangement.ONE_BY_ONE), names),
    )
    number = exported(generator, store, "tuned")
    metadata = store.verify("tuned", number)
    assert metadata.signatures[-3:] == ("generate_uint8_bfloat16", "generate_uint8_cpu", "generate_uint8_bfloat16_cpu")
    assert metadata.algorithms == {"generate_uint8_cpu": names, "generate_uint8_bfloat16_cpu": names}
    model = tf.saved_model.load(str(store.path("tuned", number)))
    pixels = model.signatures["generate_uint8"](latents=latents(5))["images"]
    np.testing.assert_allclose(model.signatures["generate_uint8_cpu"](latents=latents(5))["images"], pixels, atol=1)


def test_a_generator_of_unknown_layers_has_no_signature_of_bfloat16(store: ModelStore) -> None:
    grey = Exportable(lambda latents, _: tf.zeros([tf.shape(latents)[0], 4, 4, 1]), 8, 4, 1, provenance={"source": "x"})
    metadata = store.verify("unknown", export_version(grey, store, "unknown"))
    assert metadata.signatures == ("serving_default", "generate_uint8", "differentiable")
    assert (metadata.bfloat16_psnr_db, metadata.algorithms) == (None, {})


PLAIN_TENSORFLOW = """
import sys
sys.modules["progan_service"] = sys.modules["keras"] = None  # importing them fails
import numpy as np
import tensorflow as tf
generate = tf.saved_model.load(sys.argv[1]).signatures["generate_uint8"]
np.save(sys.argv[3], generate(latents=tf.constant(np.load(sys.argv[2])))["images"])
"""


def test_plain_tensorflow_is_enough_to_load_it(version: Path, signatures: dict[str, Any], tmp_path: Path) -> None:
    z, pixels = tmp_path / "latents.npy", tmp_path / "pixels.npy"
    np.save(z, latents(3))
    command = [sys.executable, "-c", PLAIN_TENSORFLOW, version, z, pixels]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    np.testing.assert_array_equal(np.load(pixels), signatures["generate_uint8"](latents=latents(3))["images"])


# Elsewhere


def serving_messages() -> dict[str, type[Message]]:
    """PredictionLog and what is in it, as TensorFlow Serving's .proto files have them."""
    text, tensor = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    file = descriptor_pb2.FileDescriptorProto(name="prediction_log.proto", package="serving", syntax="proto3")
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    for name, fields in {
        "ModelSpec": [("name", 1, text, ""), ("signature_name", 3, text, "")],
        "InputsEntry": [("key", 1, text, ""), ("value", 2, tensor, ".tensorflow.TensorProto")],
        "PredictRequest": [
            ("model_spec", 1, tensor, ".serving.ModelSpec"),
            ("inputs", 2, tensor, ".serving.InputsEntry"),
        ],
        "PredictLog": [("request", 1, tensor, ".serving.PredictRequest")],
        "PredictionLog": [("predict_log", 6, tensor, ".serving.PredictLog")],
    }.items():
        made = file.message_type.add(name=name)
        for field_name, number, kind, of in fields:
            label = 3 if field_name == "inputs" else 1  # repeated, optional
            made.field.add(name=field_name, number=number, type=kind, type_name=of or None, label=label)
    pool = descriptor_pool.Default()
    return message_factory.GetMessages([file], pool)


def test_tensorflow_serving_finds_requests_to_warm_up_with(grey_labelled: tuple[Generator, Path]) -> None:
    _, version = grey_labelled
    prediction_log = serving_messages()["serving.PredictionLog"]
    records = tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [prediction_log.FromString(record.numpy()).predict_log.request for record in records]
    assert [(request.model_spec.name, request.model_spec.signature_name) for request in requests] == [
        ("grey", "serving_default"),
        ("grey", "generate_uint8"),
    ]
    for request in requests:
        inputs = {entry.key: tf.make_ndarray(entry.value) for entry in request.inputs}
        assert {name: values.shape for name, values in inputs.items()} == {"latents": (4, 8), "labels": (4, 3)}
        np.testing.assert_array_equal(inputs["latents"], latents_from_seeds(seed_range(0, 4), 8))
