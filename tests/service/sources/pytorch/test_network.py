"""Checkpoints of genforce and pytorch_GAN_zoo draw what their networks draw; everything else is refused by name.

The oracle is a forward pass in NumPy, with the scales and layouts of those programs.
"""

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.export.exportable import Exportable
from progan_service.export.weights_file import load_weights, save_weights
from progan_service.model.config import NetworkConfig
from progan_service.sources.pytorch import network
from progan_service.sources.pytorch.checkpoint import read_generator
from progan_service.sources.pytorch.network import PytorchCheckpointError, load_pytorch_checkpoint

Array = NDArray[Any]
WIDTHS = {4: 6, 8: 6, 16: 4}  # feature maps of min(32 * 2 / R, 6)
LATENTS = 6
FORMATS = ["save", "save_as_before"]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read without a process each, which is slow."""
    monkeypatch.setattr(network, "read_apart", lambda _, path: read_generator(path.read_bytes()))


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(n * 31**place for place, n in enumerate(shape))).normal(size=shape)


def latents(count: int = 3, size: int = LATENTS) -> Array:
    return normal(count, size).astype(np.float32)


# genforce: weights [out, in, height, width], scaled by gain / sqrt(fan-in); the first layer is flipped.


def genforce(lod: float = 0.0, channels: int = 3, inputs: int = LATENTS) -> dict[str, Array]:
    """The weights of a generator, as float32."""
    state: dict[str, Array] = {"lod": np.array(lod)}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = normal(*shape), normal(shape[0]) / 2

    before = inputs
    for number, width in enumerate(WIDTHS.values()):
        side = 3 if number else 4
        layer(f"layer{2 * number}", width, before, side, side)
        layer(f"layer{2 * number + 1}", width, width, 3, 3)
        layer(f"output{number}", channels, width, 1, 1)
        before = width
    return {name: array.astype(np.float32) for name, array in state.items()}


def scaled(state: dict[str, Array], name: str, gain: float = math.sqrt(2)) -> tuple[Array, Array]:
    kernel = state[f"{name}.weight"].astype(np.float64)
    return kernel * gain / math.sqrt(math.prod(kernel.shape[1:])), state[f"{name}.bias"]


def genforce_images(draw: Callable[..., Array], state: dict[str, Array], z: Array, doublings: int = 2) -> Array:
    """The images of the network that has grown so far, channels last.

    The latents are padded by three zeros, so that pixel [y, x] of the 4x4 output meets them at [3 - y, 3 - x] of the
    kernel.
    """
    kernel, bias = scaled(state, "layer0")
    first = (np.stack([[kernel[:, :, 3 - y, 3 - x].T for x in range(4)] for y in range(4)]).transpose(2, 3, 0, 1), bias)
    layers = [scaled(state, f"layer{number}") for number in range(1, 2 * doublings + 2)]
    return draw(z, first, layers, scaled(state, f"output{doublings}", gain=1.0)).transpose(0, 2, 3, 1)


def doubled(images: Array) -> Array:
    return images.repeat(2, axis=1).repeat(2, axis=2)


def stored(torch: Any, state: dict[str, Array], prefix: str = "") -> OrderedDict[str, Any]:
    """A state_dict. Kernels are views of arrays in another order, as they are after a conversion."""
    result = OrderedDict()
    for name, array in state.items():
        view = array if array.ndim < 4 else np.ascontiguousarray(array.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
        result[prefix + name] = torch.Tensor(view)
    return result


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def images(path: Path, z: Array, labels: Array | None = None) -> Array:
    trained = load_pytorch_checkpoint(path)
    found = Exportable.of(trained).images(tf.constant(z), None if labels is None else tf.constant(labels))
    return np.asarray(found)


@pytest.mark.parametrize("form", FORMATS)
def test_genforce_draws_the_same_images(form: str, torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    """Of the three networks in a file the averaged generator is taken."""
    state = genforce()
    other = {name: np.zeros_like(array) for name, array in state.items()}
    networks = {
        "generator": stored(torch, other),
        "discriminator": stored(torch, {"layer6.weight": normal(1, 6), "layer6.bias": normal(1)}),
        "generator_smooth": stored(torch, state),
    }
    path = written(tmp_path / "pggan_celebahq16.pth", getattr(torch, form)(networks))
    np.testing.assert_allclose(images(path, latents()), genforce_images(numpy_generator, state, latents()), atol=2e-5)


@pytest.mark.parametrize(
    ("lod", "resolution", "alpha"), [(0.0, 16, 1.0), (0.25, 16, 0.75), (1.0, 8, 1.0), (2.0, 4, 1.0)], ids=str
)
@pytest.mark.usefixtures("in_this_process")
def test_genforce_at_every_stage(
    lod: float, resolution: int, alpha: float, torch: Any, numpy_generator: Any, tmp_path: Path
) -> None:
    state = genforce(lod)
    path = written(tmp_path / "checkpoint_iter000001.pth", torch.save(stored(torch, state)))
    trained = load_pytorch_checkpoint(path)
    assert (trained.resolution, trained.alpha) == (resolution, alpha)
    doublings = {16: 2, 8: 1, 4: 0}[resolution]
    expected = genforce_images(numpy_generator, state, latents(), doublings)
    if alpha < 1:
        before = genforce_images(numpy_generator, state, latents(), doublings - 1)
        expected = alpha * expected + (1 - alpha) * doubled(before)
    np.testing.assert_allclose(images(path, latents()), expected, atol=2e-5)


@pytest.mark.usefixtures("in_this_process")
def test_genforce_files_of_training(torch: Any, tmp_path: Path) -> None:
    """With the optimizers beside the models, and names as they are on several GPUs."""
    content = {
        "models": {"generator": stored(torch, genforce(), "module."), "discriminator": OrderedDict()},
        "running_metadata": {"iter": 7, "seen_img": 224},
        "optimizers": {"generator": {"state": {0: {"step": 7, "exp_avg": torch.Tensor(normal(2, 2))}}}},
    }
    trained = load_pytorch_checkpoint(written(tmp_path / "checkpoint.pth", torch.save(content)))
    assert trained.provenance["network_name"] == "generator"
    assert trained.generator.config == NetworkConfig(16, fmap_base=32, fmap_max=6, d_pool="post_act")


@pytest.mark.usefixtures("in_this_process")
def test_genforce_in_grey(torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    state = genforce(channels=1)
    path = written(tmp_path / "grey.pt", torch.save({"generator": stored(torch, state)}))
    found = images(path, latents())
    assert found.shape == (3, 16, 16, 1)
    np.testing.assert_allclose(found, genforce_images(numpy_generator, state, latents()), atol=2e-5)


@pytest.mark.usefixtures("in_this_process")
def test_where_it_comes_from_is_known(torch: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "pggan.pth", torch.save({"generator_smooth": stored(torch, genforce())}))
    assert json.loads(json.dumps(load_pytorch_checkpoint(path).provenance)) == {
        "source": "pytorch checkpoint",
        "form": "genforce",
        "origin": "pggan.pth",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "license": "The file states none; the networks that genforce released are NVIDIA's, which are under "
        "CC BY-NC 4.0 (non-commercial).",
        "network_name": "generator_smooth",
        "assumed": ["use_wscale=True", "fused_scale=False", "final_tanh=False"],
    }


# pytorch_GAN_zoo: all layers compute (x * weight + bias) * sqrt(2 / fan-in); the first one has a bias a pixel.


def gan_zoo(inputs: int = LATENTS, channels: int = 3) -> dict[str, Array]:
    state: dict[str, Array] = {}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = normal(*shape), 2 * normal(shape[0])

    layer("formatLayer.module", 16 * WIDTHS[4], inputs)
    layer("groupScale0.0.module", WIDTHS[4], WIDTHS[4], 3, 3)
    layer("toRGBLayers.0.module", channels, WIDTHS[4], 1, 1)
    for number, (before, width) in enumerate(((6, 6), (6, 4))):
        layer(f"scaleLayers.{number}.0.module", width, before, 3, 3)
        layer(f"scaleLayers.{number}.1.module", width, width, 3, 3)
        layer(f"toRGBLayers.{number + 1}.module", channels, width, 1, 1)
    return {name: array.astype(np.float32) for name, array in state.items()}


CONFIG = {
    "depthScale0": 6,
    "depthOtherScales": [6, 4],
    "dimOutput": 3,
    "noiseVectorDim": LATENTS,
    "categoryVectorDim": 0,
    "attribKeysOrder": None,
    "equalizedlR": True,
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "lossCriterion": "WGANGP",
    "alpha": 0,
}


def gan_zoo_images(
    draw: Callable[..., Array], state: dict[str, Array], z: Array, doublings: int = 2, equalized: bool = True
) -> Array:
    def theirs(name: str) -> tuple[Array, Array]:
        kernel = state[f"{name}.module.weight"].astype(np.float64)
        scale = math.sqrt(2 / math.prod(kernel.shape[1:])) if equalized else 1.0
        return kernel * scale, state[f"{name}.module.bias"] * scale

    kernel, bias = theirs("formatLayer")
    first = (kernel.T.reshape(-1, WIDTHS[4], 4, 4), bias.reshape(WIDTHS[4], 4, 4))
    names = ["groupScale0.0", *(f"scaleLayers.{number // 2}.{number % 2}" for number in range(2 * doublings))]
    return draw(z, first, [theirs(name) for name in names], theirs(f"toRGBLayers.{doublings}")).transpose(0, 2, 3, 1)


def zoo_file(torch: Any, state: dict[str, Array], **config: Any) -> dict[str, Any]:
    """What `PGAN.save` writes. Its average counts."""
    other = {name: np.zeros_like(array) for name, array in state.items()}
    return {
        "config": torch.BaseConfig(**CONFIG | config),
        "netG": stored(torch, other),
        "netD": stored(torch, {"decisionLayer.module.weight": normal(1, 6)}),
        "avgG": stored(torch, state),
    }


@pytest.mark.parametrize("form", FORMATS)
def test_gan_zoo_draws_the_same_images(form: str, torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    state = gan_zoo()
    path = written(tmp_path / "celebaHQ_s2_i1.pth", getattr(torch, form)(zoo_file(torch, state)))
    np.testing.assert_allclose(images(path, latents()), gan_zoo_images(numpy_generator, state, latents()), atol=2e-5)
    assert load_pytorch_checkpoint(path).generator.config == NetworkConfig(
        16, fmap_base=32, fmap_max=6, d_pool="post_act", first_bias="pixel"
    )


@pytest.mark.usefixtures("in_this_process")
def test_gan_zoo_while_a_resolution_fades_in(torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    """Their alpha is the share of the previous resolution."""
    state = gan_zoo()
    path = written(tmp_path / "faces.pt", torch.save(zoo_file(torch, state, alpha=0.25)))
    now = gan_zoo_images(numpy_generator, state, latents())
    before = doubled(gan_zoo_images(numpy_generator, state, latents(), doublings=1))
    np.testing.assert_allclose(images(path, latents()), 0.75 * now + 0.25 * before, atol=2e-5)


@pytest.mark.usefixtures("in_this_process")
def test_gan_zoo_without_equalized_learning_rates(torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    state = {name: array / 8 for name, array in gan_zoo().items()}
    path = written(tmp_path / "faces.pt", torch.save(zoo_file(torch, state, equalizedlR=False)))
    expected = gan_zoo_images(numpy_generator, state, latents(), equalized=False)
    np.testing.assert_allclose(images(path, latents()), expected, atol=2e-5)


@pytest.mark.usefixtures("in_this_process")
def test_gan_zoo_with_classes(torch: Any, numpy_generator: Any, tmp_path: Path) -> None:
    """The values of one attribute are classes; they stand behind the latents."""
    state, kinds = gan_zoo(inputs=LATENTS + 2), {"Kind": {"order": 0, "values": ["apple", "pear"]}}
    content = zoo_file(torch, state, categoryVectorDim=2, attribKeysOrder=kinds)
    path = written(tmp_path / "fruits.pt", torch.save(content))
    trained = load_pytorch_checkpoint(path)
    assert (trained.label_names, trained.label_kind) == (("apple", "pear"), "classes")
    labels = np.eye(2, dtype=np.float32)[[1, 0, 1]]
    expected = gan_zoo_images(numpy_generator, state, np.concatenate([latents(), labels], axis=1))
    np.testing.assert_allclose(images(path, latents(), labels), expected, atol=2e-5)


@pytest.mark.usefixtures("in_this_process")
def test_gan_zoo_names_without_module(torch: Any, tmp_path: Path) -> None:
    """As its older releases wrote them, and without an average."""
    content = zoo_file(torch, {name.replace(".module", ""): array for name, array in gan_zoo().items()})
    content["netG"] = content.pop("avgG")
    trained = load_pytorch_checkpoint(written(tmp_path / "old.pt", torch.save(content)))
    assert (trained.provenance["network_name"], trained.resolution) == ("netG", 16)


@pytest.mark.usefixtures("in_this_process")
def test_its_weights_file_is_the_same_generator(torch: Any, tmp_path: Path) -> None:
    """Also the bias for each pixel."""
    trained = load_pytorch_checkpoint(written(tmp_path / "faces.pt", torch.save(zoo_file(torch, gan_zoo()))))
    save_weights(trained, tmp_path / "faces.safetensors")
    again = load_weights(tmp_path / "faces.safetensors")
    assert asdict(again.generator.config) == asdict(trained.generator.config)
    for one, other in zip(again.generator.weights, trained.generator.weights, strict=True):
        np.testing.assert_array_equal(one, other)


# Other networks


def refused(path: Path) -> str:
    """The sentence that follows the name of the file."""
    with pytest.raises(PytorchCheckpointError) as caught:
        load_pytorch_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


BRIDGE = "other weights come in as a .safetensors, see docs/generators.md"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, f"holds nothing: no checkpoint of genforce or pytorch_GAN_zoo; {BRIDGE}"),
        (
            {"epoch": 3, "state_dict": {}, "arch": "resnet", 4: 1, "a": 2, "b": 3},
            f"holds 'epoch', 'state_dict', 'arch', 4, 'a': no checkpoint of genforce or pytorch_GAN_zoo; {BRIDGE}",
        ),
        ([1, 2], f"holds no dictionary of weights; {BRIDGE}"),
        ({"generator": {"layer0.weight": 3}}, "layer0.weight is no tensor"),
        ({"netG": {}, "config": {}}, f"holds 'netG', 'config': no checkpoint of genforce or pytorch_GAN_zoo; {BRIDGE}"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_other_checkpoints_are_named(content: Any, sentence: str, torch: Any, tmp_path: Path) -> None:
    assert refused(written(tmp_path / "other.pth", torch.save(content))) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer0.weight": None}, f"holds no variable layer0.weight: is no PGGAN of genforce; {BRIDGE}"),
        ({"layer0.weight": normal(6, 6)}, "layer0.weight has shape (6, 6): must be (C, latents, 4, 4)"),
        ({"layer1.bias": None}, "holds no variable layer1.bias"),
        ({"layer3.weight": None}, "holds no variable layer3.weight, which a generator of 16x16 images has"),
        ({"lod": None}, "holds no variable lod, which a generator of 16x16 images has"),
        ({"lod": np.array(3.0)}, "lod is 3: must lie between 0 and 2"),
        ({"mapping.dense0.weight": normal(6, 6)}, "holds the variable mapping.dense0.weight, which a generator of 16"),
        ({"layer4.weight": normal(6, 4, 3, 3)}, "layer4.weight has shape (6, 4, 3, 3), not (4, 6, 3, 3)"),
        ({"output1.weight": normal(3, 6, 1, 1) + np.inf}, "output1.weight holds numbers that are not finite"),
        ({"output2.bias": normal(2)}, "channels is 2: must be 1 or 3"),
        ({"layer3.bias": normal(5)}, "feature maps 6 at 4x4, 5 at 8x8, 4 at 16x16 follow from no fmap_base"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_networks_that_are_not_genforces_pggan(change: Any, sentence: str, torch: Any, tmp_path: Path) -> None:
    state = {name: array for name, array in (genforce() | change).items() if array is not None}
    content = {"generator": stored(torch, {name: array.astype(np.float32) for name, array in state.items()})}
    assert refused(written(tmp_path / "other.pth", torch.save(content))).startswith(sentence)


@pytest.mark.usefixtures("in_this_process")
def test_genforce_with_labels_is_another_function(torch: Any, tmp_path: Path) -> None:
    discriminator = {"layer4.bias": normal(6).astype(np.float32), "layer6.bias": normal(4).astype(np.float32)}
    content = {"generator": stored(torch, genforce()), "discriminator": stored(torch, discriminator)}
    assert refused(written(tmp_path / "labelled.pth", torch.save(content))) == (
        "is a network with 3 labels; those of genforce scale latents, but not labels, by their number, which this "
        "program does not do"
    )


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"leakyReluLeak": 0.1}, "leakyReluLeak is 0.1: must be 0.2"),
        ({"perChannelNormalization": False}, "perChannelNormalization is False: must be True"),
        ({"lossCriterion": "DCGAN"}, "lossCriterion is 'DCGAN': must be one of WGANGP, WGANGP2, Logistic"),
        ({"alpha": 1.5}, "alpha is 1.5: must be a number from 0 to 1"),
        ({"equalizedlR": 2}, "equalizedlR is 2: must be True or False"),
        ({"categoryVectorDim": 2}, "categoryVectorDim is 2: attribKeysOrder has 0 values"),
        ({"attribKeysOrder": [1]}, "attribKeysOrder is no dictionary of attributes"),
        ({"attribKeysOrder": {"Kind": {}}}, "attribKeysOrder names no values"),
        ({"attribKeysOrder": {"Kind": {"values": [7]}}}, "holds a name of a label that is no short text"),
        (
            {"attribKeysOrder": {"Gender": {"values": ["M", "W"]}, "Shape": {"values": ["round"]}}},
            "has 2 attributes of several values each (Gender, Shape): must have one",
        ),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_settings_of_gan_zoo_that_change_images(config: Any, sentence: str, torch: Any, tmp_path: Path) -> None:
    assert refused(written(tmp_path / "pgan.pt", torch.save(zoo_file(torch, gan_zoo(), **config)))) == sentence


@pytest.mark.usefixtures("in_this_process")
def test_a_dcgan_of_gan_zoo_is_no_pgan(torch: Any, tmp_path: Path) -> None:
    content = zoo_file(torch, {"main.0.weight": normal(2, 2).astype(np.float32)})
    sentence = f"holds no variable formatLayer.weight: is no PGAN; {BRIDGE}"
    assert refused(written(tmp_path / "dcgan.pt", torch.save(content))) == sentence


def test_files_of_something_else(tmp_path: Path) -> None:
    assert refused(written(tmp_path / "page.pth", b"<html>Quota exceeded</html>")).startswith("is no binary pickle")
    assert refused(tmp_path / "none.pth") == "no such file"
