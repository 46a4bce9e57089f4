"""A TF Hub module becomes a generator of our own, or is exported as it is, or one sentence says why it cannot."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.export.exportable import Exportable
from progan_service.export.trained import TrainedGenerator
from progan_service.export.version import export_version
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.model.config import NetworkConfig
from progan_service.model.layers import lerp
from progan_service.model.networks import Generator
from progan_service.serving.models.servable import Servable
from progan_service.serving.models.warm_up import check_golden
from progan_service.sources.tfhub.fetch import Fetched, fetch
from progan_service.sources.tfhub.limits import HubModuleError
from progan_service.sources.tfhub.module import load_hub_module
from progan_service.store.directions import Direction
from progan_service.store.store import ModelStore

v1 = tf.compat.v1

LATENT_SIZE = 16
SHA256 = "0f1e"

Graph = Callable[[tf.Tensor], tf.Tensor]
Images = NDArray[np.float32]


# Modules


@dataclass(frozen=True)
class Tfgan:
    """The graph of a generator of tensorflow/gan with random weights: latents [N, 16] -> images [N, R, R, C].

    widths       of the blocks at 4x4, 8x8 and so on
    finish       what the module does to the linear output of the network
    alpha        how far each block has been blended in
    to_rgb       deviation of the kernels and mean of the biases of the layers that give images
    latent_norm  whether the latents are normalised
    gain         of the other layers, in the paper sqrt(2)
    named        whether the weights are named as in tensorflow/gan, and not anyhow
    resource     whether the variables are resource variables, and not reference variables as in 2018
    averaged     whether the graph reads the moving averages of the weights; they are there anyway
    """

    widths: tuple[int, ...] = (16, 8)
    channels: int = 3
    finish: Graph = lambda images: 0.5 * images + 0.5
    alpha: float = 1.0
    to_rgb: tuple[float, float] = (0.5, 0.0)
    latent_norm: bool = True
    gain: float = 2**0.5
    named: bool = True
    resource: bool = False
    averaged: bool = False

    def __call__(self, latents: tf.Tensor) -> tf.Tensor:
        x = normalised(latents) if self.latent_norm else latents
        x = tf.pad(x[:, None, None, :], [[0, 0], [3, 3], [3, 3], [0, 0]])  # [N, 7, 7, L]
        faces = []
        for number, width in enumerate(self.widths, start=1):
            block = f"progressive_gan_block_{number}"
            if number == 1:
                x = self.layer(x, width, f"{block}/conv0", 4, "VALID")
            else:
                x = self.layer(upscaled(x), width, f"{block}/conv0")
            x = self.layer(x, width, f"{block}/conv1")
            faces.append(self.conv(x, self.channels, f"{block}/to_rgb", 1, "SAME", 1.0, *self.to_rgb))
        return self.finish(reduce(lambda images, face: lerp(upscaled(images), face, self.alpha), faces))

    def layer(self, x: tf.Tensor, width: int, name: str, size: int = 3, padding: str = "SAME") -> tf.Tensor:
        return normalised(tf.nn.leaky_relu(self.conv(x, width, name, size, padding, self.gain), 0.2))

    def conv(
        self,
        x: tf.Tensor,
        width: int,
        name: str,
        size: int,
        padding: str,
        gain: float,
        deviation: float = 1.0,
        mean: float = 0.0,
    ) -> tf.Tensor:
        shape = [size, size, int(x.shape[-1]), width]
        bias = self.weight(f"{name}/bias", [width], mean, 0.1)
        kernel = self.weight(f"{name}/conv2d/kernel", shape, 0.0, deviation)
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel * (gain / np.prod(shape[:3]) ** 0.5), 1, padding), bias)

    def weight(self, name: str, shape: list[int], mean: float, deviation: float) -> tf.Tensor:
        if not self.named:
            name = f"v{len(v1.global_variables()) * 7 % 41}"
        random = v1.random_normal_initializer(mean, deviation)
        weight, average = (
            v1.get_variable(n, shape, initializer=random, use_resource=self.resource)
            for n in (name, f"{name}/ExponentialMovingAverage")
        )
        return average if self.averaged else weight


def normalised(x: tf.Tensor) -> tf.Tensor:
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + 1e-8)


def upscaled(x: tf.Tensor) -> tf.Tensor:
    return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)


def square(latents: tf.Tensor) -> tf.Tensor:
    """The smallest generator there is."""
    return tf.reshape(latents, [-1, 4, 4, 1])


def unfinished(images: tf.Tensor) -> tf.Tensor:
    return images


def save_module(
    directory: Path, graph: Callable[..., tf.Tensor], *inputs: tf.TensorSpec, name: str = "default"
) -> Images:
    """Write a module in the TF1 Hub format with one signature; its images of `some_latents()` if it takes latents."""
    drawn: Images = np.zeros(0, np.float32)
    with without_advice(), tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(3)
        given = [v1.placeholder(spec.dtype, spec.shape) for spec in inputs or [tf.TensorSpec([None, LATENT_SIZE])]]
        with v1.variable_scope("Generator/progressive_gan_generator"):
            images = graph(*given)
        session.run(v1.global_variables_initializer())
        keyed = dict(zip(("default", "labels"), given, strict=False))
        signatures = {name: v1.saved_model.predict_signature_def(keyed, {"default": images})} if name else {}
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, [], signatures)
        builder.save()
        (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
        if not inputs:
            drawn = session.run(images, {given[0]: some_latents()})
    return drawn


@contextmanager
def without_advice() -> Iterator[None]:
    """TensorFlow advises against TF1 wherever it can."""
    level = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")
    yield
    tf.get_logger().setLevel(level)


def some_latents() -> NDArray[np.float32]:
    return latents_from_seeds(seed_range(500, 4), LATENT_SIZE)


def load(directory: Path, value_range: str = "unit") -> Exportable | TrainedGenerator:
    return load_hub_module(Fetched(directory, "faces", SHA256), value_range)


def refusal(directory: Path, value_range: str = "") -> str:
    with pytest.raises(HubModuleError) as error:
        load(directory, value_range)
    return str(error.value)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """For a module."""
    return tmp_path / "faces"


# Converted


@pytest.mark.parametrize(
    "network",
    [
        Tfgan(),
        Tfgan(resource=True, averaged=True),
        Tfgan(averaged=True, named=False),
    ],
)
def test_a_module_with_the_weights_of_a_generator_becomes_one(directory: Path, network: Tfgan) -> None:
    images = save_module(directory, network)
    trained = load(directory)
    assert isinstance(trained, TrainedGenerator)
    assert trained.generator.config == NetworkConfig(resolution=8, fmap_base=32, fmap_max=16)
    assert (trained.resolution, trained.alpha, trained.label_names) == (8, 1.0, ())
    drawn = trained.generator(tf.constant(some_latents()), resolution=8)
    np.testing.assert_allclose(drawn, 2 * images - 1, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (Tfgan(widths=(16,)), NetworkConfig(4, fmap_base=32, fmap_max=16)),
        (Tfgan(widths=(16, 12), channels=1), NetworkConfig(8, channels=1, fmap_base=48, fmap_max=16)),
        (Tfgan(widths=(16, 9, 4)), NetworkConfig(16, fmap_base=36, fmap_max=16)),
    ],
)
def test_generators_of_other_sizes(directory: Path, network: Tfgan, config: NetworkConfig) -> None:
    images = save_module(directory, network)
    trained = load(directory)
    assert isinstance(trained, TrainedGenerator)
    assert trained.generator.config == config
    drawn = trained.generator(tf.constant(some_latents()), resolution=config.resolution)
    np.testing.assert_allclose(drawn, 2 * images - 1, atol=1e-5)


@pytest.mark.parametrize("given", ["unit", "signed"])
@pytest.mark.parametrize("finish", [unfinished, lambda images: images * 0.2 + [0.4, 0.5, 0.6]])
def test_images_of_either_range_come_to_the_range_of_our_own(directory: Path, finish: Graph, given: str) -> None:
    images = save_module(directory, Tfgan(finish=finish, to_rgb=(0.2, 0.5)))
    trained = load(directory, given)
    assert isinstance(trained, TrainedGenerator)
    assert trained.provenance["value_range"] == {"unit": "0..1", "signed": "-1..1"}[given]
    assert trained.provenance["value_range_reason"] == "as given by --value-range"
    drawn = trained.generator(tf.constant(some_latents()), resolution=8)
    np.testing.assert_allclose(drawn, images if given == "signed" else 2 * images - 1, atol=1e-5)


# Clipped


@pytest.mark.parametrize(
    ("finish", "value_range"),
    [
        (lambda images: tf.clip_by_value(0.5 * images + 0.5, 0.0, 1.0), "0..1"),
        (lambda images: tf.clip_by_value(images, -1.0, 1.0), "-1..1"),
        (lambda images: tf.maximum(tf.minimum(images, 1.0), -1.0) * 0.5 + 0.5, "0..1"),
    ],
)
def test_a_module_that_clips_becomes_a_generator_whose_images_are_clipped_when_they_are_served(
    directory: Path, finish: Graph, value_range: str
) -> None:
    images = save_module(directory, Tfgan(finish=finish, to_rgb=(1.0, 0.5)))
    assert 0.1 < np.mean(images == 1.0) < 0.9
    trained = load(directory, "")
    assert isinstance(trained, TrainedGenerator)
    assert trained.provenance["value_range"] == value_range
    drawn = trained.generator(tf.constant(some_latents()), resolution=8).numpy()
    np.testing.assert_allclose(drawn.clip(-1, 1), images if value_range == "-1..1" else 2 * images - 1, atol=1e-5)


def test_a_module_that_clips_nearly_everything_stays_as_it_is(directory: Path) -> None:
    save_module(directory, Tfgan(finish=lambda images: tf.clip_by_value(100.0 * images, 0.0, 1.0)))
    assert load(directory).provenance["reason"] == "nearly all of its values are cut off"


# The range of images


def dots(least: float, most: float) -> Graph:
    """Images of evenly many values of a range, and nothing in the graph that says so."""
    return lambda latents: tf.math.floormod(tf.reshape(latents, [-1, 4, 4, 1]) * 37, 1.0) * (most - least) + least


GRAPH = "its graph can give no other values"


@pytest.mark.parametrize(
    ("finish", "value_range", "reason"),
    [
        (lambda x: tf.tanh(x + 1.5), "-1..1", GRAPH),  # bright photographs of a generator of tensorflow/gan
        (lambda x: 0.5 * tf.tanh(x) + 0.5, "0..1", GRAPH),
        (lambda x: (1 - tf.tanh(x)) / 2, "0..1", GRAPH),
        (lambda x: 2 * tf.sigmoid(x + 3) - 1, "-1..1", GRAPH),
        (lambda x: tf.identity(tf.clip_by_value(x + 1.5, -1.0, 1.0)), "-1..1", GRAPH),
        (dots(-1, 1), "-1..1", "37 % of the values lie below -0.25"),
        (dots(-0.3, 1), "-1..1", "4 % of the values lie below -0.25"),
        (dots(0, 1), "0..1", "the values go from 0.01 to 0.99"),
    ],
)
def test_the_range_is_known_from_the_graph_or_the_pixels(
    directory: Path, finish: Graph, value_range: str, reason: str
) -> None:
    graph = finish if "values" in reason and reason != GRAPH else Tfgan(widths=(16,), finish=finish)
    save_module(directory, graph)
    provenance = load(directory, "").provenance
    assert (provenance["value_range"], provenance["value_range_reason"]) == (value_range, reason)


@pytest.mark.parametrize(
    ("least", "most", "shown"),
    [
        (-0.2, 1.0, "from -0.19 to 0.99"),  # bright ones of -1..1, or overshooting ones of 0..1
        (0.3, 1.0, "from 0.30 to 0.99"),
        (0.0, 0.4, "from 0.00 to 0.40"),
        (-0.2, 1.6, "from -0.19 to 1.58"),
    ],
)
def test_pixels_that_do_not_settle_the_range_are_not_guessed_from(
    directory: Path, least: float, most: float, shown: str
) -> None:
    save_module(directory, dots(least, most))
    assert refusal(directory) == (
        f"faces: its images, with values {shown}, do not show whether black is 0 or -1; "
        "give --value-range unit (0..1) or --value-range signed (-1..1), whichever its page says"
    )
    assert load(directory, "signed").provenance["value_range"] == "-1..1"


@pytest.mark.parametrize(
    "origin",
    [
        "https://tfhub.dev/google/progan-128/1",
        "https://www.kaggle.com/models/google/progan-128/tensorFlow1/progan-128/1",
    ],
)
def test_the_range_of_the_module_in_the_tutorial_is_known(directory: Path, origin: str) -> None:
    save_module(directory, dots(-0.2, 1))
    provenance = load_hub_module(Fetched(directory, origin, SHA256)).provenance
    assert provenance["value_range"] == "0..1"
    assert provenance["value_range_reason"] == "as the tutorial of TF Hub shows its images"


def test_the_provenance_of_a_converted_module(directory: Path) -> None:
    save_module(directory, Tfgan())
    provenance = json.loads(json.dumps(load(directory).provenance))
    assert 0 < provenance.pop("difference") < 1e-5
    assert provenance == {
        "source": "tfhub",
        "origin": "faces",
        "sha256": "0f1e",
        "license": "stated on the page of the module; unknown here",
        "value_range": "0..1",
        "value_range_reason": "as given by --value-range",
        "form": "converted",
    }


# Wrapped


DRAWS_OTHERS = "a generator with its weights draws images that differ by up to "


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Tfgan(widths=(16,), finish=lambda images: 0.5 * tf.tanh(images) + 0.5), DRAWS_OTHERS),
        (Tfgan(widths=(16,), latent_norm=False), DRAWS_OTHERS),
        (Tfgan(alpha=0.5), DRAWS_OTHERS),
        (Tfgan(widths=(16,), gain=1.0, resource=True), DRAWS_OTHERS),
        (
            Tfgan(widths=(16, 4, 4)),
            "feature maps 16 at 4x4, 4 at 8x8, 4 at 16x16 follow from no fmap_base and fmap_max: "
            "4x4x16x16, 3x3x16x16, 3x3x16x4, 3x3x4x4, 3x3x4x4, 3x3x4x4",
        ),
        (Tfgan(finish=lambda images: images[:, ::2, ::2]), "its kernels are not those of a generator of this size: "),
        (square, "it has no convolutions with a bias"),
        (
            Tfgan(widths=(16,), finish=lambda images: images[..., :1]),
            "it has no 1x1 convolution with a bias that could give the images",
        ),
    ],
)
def test_any_other_generator_is_taken_as_it_is(directory: Path, network: Graph, reason: str) -> None:
    images = save_module(directory, network)
    wrapped = load(directory)
    assert isinstance(wrapped, Exportable)
    assert (wrapped.latent_size, wrapped.resolution, wrapped.channels) == (16, *images.shape[2:])
    assert wrapped.provenance["form"] == "wrapped"
    assert wrapped.provenance["reason"].startswith(reason)
    drawn = wrapped.images(tf.constant(some_latents()), None)
    expected = images if wrapped.provenance["value_range"] == "-1..1" else 2 * images - 1
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_the_provenance_of_a_wrapped_module(directory: Path) -> None:
    save_module(directory, square)
    assert json.loads(json.dumps(load(directory, "").provenance)) == {
        "source": "tfhub",
        "origin": "faces",
        "sha256": "0f1e",
        "license": "stated on the page of the module; unknown here",
        "value_range": "-1..1",
        "value_range_reason": "34 % of the values lie below -0.25",
        "form": "wrapped",
        "reason": "it has no convolutions with a bias",
    }


def test_the_only_signature_may_have_any_name(directory: Path) -> None:
    save_module(directory, square, name="draw")
    assert load(directory).provenance["origin"] == "faces"


def test_a_saved_model_of_today(directory: Path) -> None:
    generator = Generator(NetworkConfig(resolution=8, fmap_base=32, fmap_max=LATENT_SIZE))
    module = tf.Module()
    module.weights = [weight.value for weight in generator.weights]
    spec = tf.TensorSpec([None, LATENT_SIZE], tf.float32)
    draw = tf.function(lambda latents: {"images": generator(latents, resolution=8) / 4 + 0.5}, input_signature=[spec])
    tf.saved_model.save(module, str(directory), signatures=draw.get_concrete_function())
    wrapped = load(directory)
    assert isinstance(wrapped, Exportable)
    expected = generator(tf.constant(some_latents()), resolution=8) / 2
    np.testing.assert_allclose(wrapped.images(tf.constant(some_latents()), None), expected, atol=1e-6)


def test_a_wrapped_module_is_published_again_with_directions(directory: Path, tmp_path: Path) -> None:
    save_module(directory, Tfgan(finish=lambda images: images[:, ::2, ::2]))
    store = ModelStore(tmp_path)
    exported = export_version(load(directory), store, "hub")
    axis = Direction("axis-1", tuple(np.eye(LATENT_SIZE)[0].tolist()), "discovered")
    version = store.publish_directions("hub", exported, [axis])
    assert store.directions("hub", version) == {"axis-1": axis}
    check_golden(Servable(store.path("hub", version), store.verify("hub", version)), store.path("hub", version))


# Exported


PLAIN_TENSORFLOW = """
import sys
sys.modules["progan_service"] = sys.modules["keras"] = None  # importing them fails
import numpy as np
import tensorflow as tf
version = tf.saved_model.load(sys.argv[1])
draw = version.signatures["differentiable"]
latents = tf.constant(np.load(sys.argv[2]))
with tf.GradientTape() as tape:
    tape.watch(latents)
    images = draw(latents=latents)["images"]
np.savez(sys.argv[3], images=images, gradient=tape.gradient(images, latents))
"""


def test_a_module_is_exported_for_plain_tensorflow(tmp_path: Path) -> None:
    images = save_module(tmp_path / "module", Tfgan(latent_norm=False))
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "module", ".")
    (tmp_path / "store").mkdir()
    store = ModelStore(tmp_path / "store")

    fetched = fetch(str(tmp_path / "faces.tar.gz"), tmp_path, progress=lambda *_: None)
    wrapped = load_hub_module(fetched, "unit")
    assert isinstance(wrapped, Exportable)
    export_version(wrapped, store, "faces")

    metadata = store.verify("faces", 1)
    assert (metadata.latent_size, metadata.resolution, metadata.channels, metadata.label_count) == (16, 8, 3, 0)
    assert (metadata.provenance["origin"], metadata.provenance["form"]) == ("faces.tar.gz", "wrapped")
    assert metadata.can_invert
    saved = tf.train.list_variables(str(store.path("faces", 1) / "variables" / "variables"))
    assert sorted(len(shape) for name, shape in saved if name.startswith("weights/")) == [1] * 6 + [4] * 6
    found = drawn_by_plain_tensorflow(store.path("faces", 1), tmp_path)
    np.testing.assert_allclose(found["images"], images, atol=1e-6)
    assert found["gradient"].shape == (4, 16)
    assert np.abs(found["gradient"]).max() > 0


def drawn_by_plain_tensorflow(version: Path, directory: Path) -> dict[str, Any]:
    np.save(directory / "latents.npy", some_latents())
    command = [sys.executable, "-c", PLAIN_TENSORFLOW, version, directory / "latents.npy", directory / "drawn.npz"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    with np.load(directory / "drawn.npz") as arrays:
        return dict(arrays)


# Refused


GENERATOR_TAKES = "a generator takes float32 [?, L], latents, alone"
GENERATOR_GIVES = "a generator gives float32 [?, R, R, C], images"
IMAGES_ARE = "they must be [R, R, C], R a power of two from 4 on, C 1 or 3"


def finished(finish: Graph) -> Tfgan:
    return Tfgan(widths=(16,), finish=finish)


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (finished(lambda x: tf.cast(255 * x, tf.uint8)), f"gives uint8 [?, 4, 4, 3]; {GENERATOR_GIVES}"),
        (finished(lambda x: x[:, :3, :3]), f"gives images [3, 3, 3]; {IMAGES_ARE}"),
        (finished(lambda x: x[:, :2]), f"gives images [2, 4, 3]; {IMAGES_ARE}"),
        (finished(lambda x: x[..., :2]), f"gives images [4, 4, 2]; {IMAGES_ARE}"),
        (finished(lambda x: x[:, :2, :2]), f"gives images [2, 2, 3]; {IMAGES_ARE}"),
        (finished(lambda x: tf.transpose(x, [0, 3, 1, 2])), f"gives images [3, 4, 4]; {IMAGES_ARE}"),
        (finished(lambda x: x[:, 0, 0]), "gives [16, 3] of 16 latents; images are [N, R, R, C]"),
        (finished(lambda x: x / 0), "gives images with values that are not finite; it is damaged, or no generator"),
        (
            finished(lambda x: x + tf.random.normal(tf.shape(x))),
            "draws on more than the latents (RandomStandardNormal); it cannot be exported",
        ),
        (
            finished(lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/dev/null")), tf.float32)),
            "draws on more than the latents (ReadFile); it cannot be exported",
        ),
        (
            finished(lambda x: x - tf.reduce_mean(x, axis=0)),
            "an image depends on those drawn with it; it must depend on its latents alone",
        ),
    ],
)
def test_a_module_that_is_no_generator(directory: Path, graph: Graph, problem: str) -> None:
    save_module(directory, graph)
    assert refusal(directory) == f"faces: {problem}"


@pytest.mark.parametrize(
    ("inputs", "described"),
    [
        ([tf.TensorSpec([None, 16]), tf.TensorSpec([None, 3])], "float32 [?, 16] and float32 [?, 3]"),
        ([tf.TensorSpec([None, 16], tf.int32)], "int32 [?, 16]"),
        ([tf.TensorSpec([4, 16])], "float32 [4, 16]"),
        ([tf.TensorSpec([None, 1, 1, 16])], "float32 [?, 1, 1, 16]"),
        ([tf.TensorSpec(None)], "float32 of any shape"),
    ],
)
def test_a_module_of_other_inputs(directory: Path, inputs: list[tf.TensorSpec], described: str) -> None:
    save_module(directory, lambda *given: tf.reshape(tf.cast(given[0], tf.float32), [-1, 4, 4, 1]), *inputs)
    assert refusal(directory) == f"faces: takes {described}; {GENERATOR_TAKES}"


def test_a_module_of_latents_of_any_length(directory: Path) -> None:
    save_module(directory, square, tf.TensorSpec([None, None]))
    assert refusal(directory) == "faces: takes float32 [?, ?]; the length of the latents must be known"


def test_a_module_without_a_signature(directory: Path) -> None:
    save_module(directory, square, name="")
    assert refusal(directory) == "faces: has no signature default or serving_default, but none; it is no generator"


def test_a_module_of_other_values(directory: Path) -> None:
    save_module(directory, finished(lambda x: 127.5 * x + 127.5))
    assert re.fullmatch(
        r"faces: most values of its images lie in [0-9.]+..[0-9.]+, not in 0..1 or -1..1", refusal(directory)
    )


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_damaged_module(directory: Path, name: str) -> None:
    save_module(directory, Tfgan(widths=(16,)))
    (directory / name).write_bytes((directory / name).read_bytes()[:40])
    assert refusal(directory).startswith("faces: TensorFlow cannot load it (")


def test_a_graph_that_fails(directory: Path) -> None:
    save_module(directory, finished(lambda x: tf.reshape(x, [-1, 7, 7, 3])), tf.TensorSpec([None, 16]))
    assert refusal(directory).startswith("faces: it cannot draw images (")


def test_settings_of_tensorflow_stay_as_they_are(directory: Path) -> None:
    save_module(directory, square)
    level = tf.get_logger().level
    load(directory)
    assert tf.config.experimental.tensor_float_32_execution_enabled()
    assert tf.get_logger().level == level
