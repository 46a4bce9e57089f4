"""NVIDIA's pickled generators draw what NVIDIA's code drew with them; everything else is refused in one sentence.

The reference arrays hold stored weights under the original names and in its layouts, latents, labels, and the images
that the original gave for them at several levels of detail.
"""

import hashlib
import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.export.exportable import Exportable
from progan_service.model.config import NetworkConfig
from progan_service.sources.fakes import Fakes
from progan_service.sources.nvidia import network as nvidia
from progan_service.sources.nvidia.network import NvidiaPickleError, load_nvidia_pickle
from progan_service.sources.nvidia.networks_pickle import read_generator
from progan_service.sources.pickles import apart

Array = NDArray[np.float32]

REFERENCE = Path(__file__).parents[2] / "model" / "reference"
COMMON = {
    "num_channels": 3,
    "use_wscale": True,
    "use_pixelnorm": True,
    "use_leakyrelu": True,
    "normalize_latents": True,
}
KWARGS = {
    "reference_res32": COMMON | {"resolution": 32, "label_size": 0, "fmap_base": 256, "fmap_max": 32},
    "reference_res16_labels3": COMMON | {"resolution": 16, "label_size": 3, "fmap_base": 128, "fmap_max": 24},
}
CONFIGS = {
    "reference_res32": NetworkConfig(resolution=32, fmap_base=256, fmap_max=32),
    "reference_res16_labels3": NetworkConfig(resolution=16, label_size=3, fmap_base=128, fmap_max=24),
}


class Network:
    """Stands in for the class of NVIDIA's program."""

    def __init__(
        self, name: str, build_func_name: str, static_kwargs: dict[str, Any], variables: dict[str, Any]
    ) -> None:
        self.name, self.build_func_name = name, build_func_name
        self.static_kwargs, self.variables = static_kwargs, variables

    def __getstate__(self) -> dict[str, Any]:
        return {
            "version": 2,
            "name": self.name,
            "static_kwargs": self.static_kwargs,
            "build_module_src": "raise SystemExit('source of the network')",
            "build_func_name": self.build_func_name,
            "variables": list(self.variables.items()),
        }


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    """Pickle networks as NVIDIA's program does; the program is gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        program = types.ModuleType("tfutil")
        program.Network = Network  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "tfutil", program)
        patch.setattr(Network, "__module__", "tfutil")
        path.write_bytes(pickle.dumps(content, protocol))
    return path


def reference(name: str) -> dict[str, Array]:
    with np.load(REFERENCE / f"{name}.npz") as file:
        return dict(file)


def networks(name: str = "reference_res16_labels3", lod: float = 0) -> tuple[Network, Network, Network]:
    """(G, D, Gs) of the original; G has other weights than Gs."""
    arrays, kwargs = reference(name), KWARGS[name] | {"fused_scale": True}
    averaged = {key.removeprefix("Gs:"): array for key, array in arrays.items() if key.startswith("Gs:")}
    averaged["lod"] = np.float32(lod)  # type: ignore[assignment]
    discriminator = {key.removeprefix("D:"): array for key, array in arrays.items() if key.startswith("D:")}
    return (
        Network("G", "G_paper", dict(kwargs), {key: np.zeros_like(array) for key, array in averaged.items()}),
        Network("D", "D_paper", dict(kwargs), discriminator),
        Network("Gs", "G_paper", dict(kwargs), averaged),
    )


def unfused(network: Network) -> Network:
    """The same network with its layers unfused: Conv0 for Conv0_up, Conv1 for Conv1_down."""
    variables = {}
    for name, array in network.variables.items():
        if name.endswith("Conv0_up/weight"):
            array = np.ascontiguousarray(array[::-1, ::-1].transpose(0, 1, 3, 2))
        variables[name.replace("_up", "").replace("_down", "")] = array
    return Network(network.name, network.build_func_name, network.static_kwargs | {"fused_scale": False}, variables)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read without a process each, which is slow."""
    monkeypatch.setattr(nvidia, "read_apart", lambda _, path: read_generator(path.read_bytes()))


# Honest files


@pytest.mark.usefixtures("in_this_process")
def test_a_pickle_can_be_measured(tmp_path: Path) -> None:
    file = write(tmp_path / "network.pkl", networks())
    fakes = Fakes.open(file)
    facts = (fakes.digest, fakes.resolution, fakes.label_size, fakes.mirror)
    assert facts == (f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}", 16, 3, False)
    arrays = reference("reference_res16_labels3")
    (images,) = fakes.draw(arrays["latents"], arrays["labels"])
    expected = np.clip(np.rint(127.5 * arrays["images_lod0"].transpose(0, 2, 3, 1) + 127.5), 0, 255)
    assert np.abs(images - expected).max() <= 1


@pytest.mark.parametrize("name", KWARGS)
@pytest.mark.parametrize(
    ("lod", "doublings", "alpha"), [(0, 0, 1.0), (0.5, 0, 0.5), (1, 1, 1.0), (1.75, 1, 0.25)], ids=str
)
@pytest.mark.parametrize("fused", [True, False])
def test_the_same_images(name: str, lod: float, doublings: int, alpha: float, fused: bool, tmp_path: Path) -> None:
    content = networks(name, lod)
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", content if fused else tuple(map(unfused, content))))
    assert (trained.resolution, trained.alpha) == (CONFIGS[name].resolution >> doublings, alpha)
    arrays, step = reference(name), 2**doublings  # the original always upscales to the final resolution
    images = Exportable.of(trained).images(tf.constant(arrays["latents"]), tf.constant(arrays["labels"]))
    np.testing.assert_allclose(
        images, arrays[f"images_lod{lod}"][:, :, ::step, ::step].transpose(0, 2, 3, 1), atol=1e-5
    )


@pytest.mark.parametrize("name", KWARGS)
def test_the_configuration_follows_from_the_variables(name: str, tmp_path: Path) -> None:
    content = networks(name)
    assert load_nvidia_pickle(write(tmp_path / "fused.pkl", content)).generator.config == CONFIGS[name]
    apart = load_nvidia_pickle(write(tmp_path / "unfused.pkl", tuple(map(unfused, content))))
    assert asdict(apart.generator.config) == asdict(CONFIGS[name]) | {"d_pool": "post_act"}


def test_a_generator_of_its_own(tmp_path: Path) -> None:
    fused = load_nvidia_pickle(write(tmp_path / "network.pkl", networks()[2]))
    assert fused.generator.config == CONFIGS["reference_res16_labels3"]
    apart = load_nvidia_pickle(write(tmp_path / "network.pkl", unfused(networks()[2])))
    assert apart.generator.config.d_pool == "post_act"


def test_the_order_of_pooling_is_the_discriminators(tmp_path: Path) -> None:
    generator, discriminator, averaged = networks()
    mixed = write(tmp_path / "network.pkl", (generator, unfused(discriminator), averaged))
    assert load_nvidia_pickle(mixed).generator.config.d_pool == "post_act"


def test_a_grey_generator_draws_one_of_the_channels(tmp_path: Path) -> None:
    averaged = networks("reference_res32")[2]
    averaged.static_kwargs["num_channels"] = 1
    for name, array in averaged.variables.items():
        if name.startswith("ToRGB"):
            averaged.variables[name] = array[..., 1:2]
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", averaged))
    assert trained.generator.config.channels == 1
    arrays = reference("reference_res32")
    images = Exportable.of(trained).images(tf.constant(arrays["latents"]), None)
    np.testing.assert_allclose(images[..., 0], arrays["images_lod0"][:, 1], atol=1e-5)


@pytest.mark.parametrize("protocol", [2, 5])
def test_other_protocols(protocol: int, tmp_path: Path) -> None:
    arrays = reference("reference_res32")
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", networks("reference_res32"), protocol))
    images = Exportable.of(trained).images(tf.constant(arrays["latents"]), None)
    np.testing.assert_allclose(images, arrays["images_lod0"].transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"label_size": 3},
        {"latent_size": None, "structure": "linear", "dtype": "float16", "fused_scale": True},
        {"latent_size": 24, "fmap_base": 128, "fmap_decay": 1.0, "fmap_max": 24, "pixelnorm_epsilon": 1e-8},
        {"fmap_base": 135, "fmap_max": 24, "tanh_at_end": None, "use_batchnorm": False, "is_template_graph": True},
    ],
)
def test_arguments_that_say_what_the_variables_say(kwargs: dict[str, Any], tmp_path: Path) -> None:
    averaged = networks()[2]
    averaged.static_kwargs = {"label_size": 3} | kwargs
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", averaged))
    assert trained.generator.config == CONFIGS["reference_res16_labels3"]


def random_network(latents: int, **kwargs: Any) -> Network:
    """A generator of 8x8 images with 6 and 4 feature maps."""
    random, c = np.random.default_rng(4), (6, 4)
    shapes = {
        "4x4/Dense": (latents, 16 * c[0]),
        "4x4/Conv": (3, 3, c[0], c[0]),
        "ToRGB_lod1": (1, 1, c[0], 3),
        "8x8/Conv0": (3, 3, *c),
        "8x8/Conv1": (3, 3, c[1], c[1]),
        "ToRGB_lod0": (1, 1, c[1], 3),
    }
    variables = {f"{name}/weight": random.normal(size=shape) for name, shape in shapes.items()}
    biases = {f"{name}/bias": random.normal(size=shape[-1]) for name, shape in shapes.items()}
    biases["4x4/Dense/bias"] = random.normal(size=c[0])
    arrays = {name: array.astype(np.float32) for name, array in (variables | biases).items()}
    arguments = COMMON | {"resolution": 8, "fmap_base": 16, "fmap_max": 6, "fused_scale": False} | kwargs
    return Network("Gs", "G_paper", arguments, {"lod": np.float32(0), **arrays})


@pytest.mark.parametrize(
    ("latents", "kwargs", "config"),
    [
        (6, {}, NetworkConfig(8, fmap_base=16, fmap_max=6, d_pool="post_act")),
        (11, {"latent_size": 11}, NetworkConfig(8, fmap_base=16, fmap_max=6, latent_size=11, d_pool="post_act")),
        (3, {"latent_size": 3}, NetworkConfig(8, fmap_base=16, fmap_max=6, latent_size=3, d_pool="post_act")),
        (
            6,
            {"dtype": "float16", "pixelnorm_epsilon": 1e-4},
            NetworkConfig(8, fmap_base=16, fmap_max=6, d_pool="post_act", pixelnorm_epsilon=1e-4),
        ),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_other_sizes_of_latents_and_half_precision(
    latents: int, kwargs: dict[str, Any], config: NetworkConfig, numpy_generator: Any, tmp_path: Path
) -> None:
    """Short latents show the epsilon of the pixel norm."""
    network = random_network(latents, **kwargs)
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", network))
    assert trained.generator.config == config
    z = 0.01 * np.random.default_rng(5).normal(size=(3, latents)).astype(np.float32)

    def scaled(name: str, gain: float = 2**0.5) -> tuple[Array, Array]:
        kernel = network.variables[f"{name}/weight"]
        return (gain / np.prod(kernel.shape[:3]) ** 0.5 * kernel).transpose(3, 2, 0, 1), network.variables[
            f"{name}/bias"
        ]

    dense = network.variables["4x4/Dense/weight"].reshape(latents, 6, 4, 4) * (2**0.5 / 4 / latents**0.5)
    expected = numpy_generator(
        z,
        (dense, network.variables["4x4/Dense/bias"]),
        [scaled("4x4/Conv"), scaled("8x8/Conv0"), scaled("8x8/Conv1")],
        scaled("ToRGB_lod0", gain=1.0),
        epsilon=kwargs.get("pixelnorm_epsilon", 1e-8),
    )
    images = Exportable.of(trained).images(tf.constant(z), None)
    np.testing.assert_allclose(images, expected.transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.usefixtures("in_this_process")
def test_a_network_that_went_through_the_converter_of_nvidia(tmp_path: Path) -> None:
    """It gives the arguments of a discriminator to a generator, too, which ignores them."""
    network = random_network(6, mbstd_group_size=16, use_gdrop=True, epochs=12)
    trained = load_nvidia_pickle(write(tmp_path / "network.pkl", network))
    assert trained.provenance["ignored_arguments"] == ["mbstd_group_size", "use_gdrop", "epochs"]
    assert trained.provenance["static_kwargs"]["mbstd_group_size"] == 16


def test_where_it_comes_from_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "karras2018.pkl", networks())
    trained = load_nvidia_pickle(path)
    assert trained.label_names == ()
    assert json.loads(json.dumps(trained.provenance)) == {
        "source": "nvidia pickle",
        "origin": "karras2018.pkl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "license": "The file states none; the networks that NVIDIA released are under CC BY-NC 4.0 (non-commercial).",
        "network_name": "Gs",
        "static_kwargs": {
            "num_channels": 3,
            "use_wscale": True,
            "use_pixelnorm": True,
            "use_leakyrelu": True,
            "normalize_latents": True,
            "resolution": 16,
            "label_size": 3,
            "fmap_base": 128,
            "fmap_max": 24,
            "fused_scale": True,
        },
    }


# Other networks


def refused(path: Path) -> str:
    """The sentence that follows the name of the file."""
    with pytest.raises(NvidiaPickleError) as caught:
        load_nvidia_pickle(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"use_wscale": False}, "static_kwargs use_wscale is False: must be True"),
        ({"use_pixelnorm": False}, "static_kwargs use_pixelnorm is False: must be True"),
        ({"use_leakyrelu": None}, "static_kwargs use_leakyrelu is None: must be True"),
        ({"normalize_latents": False}, "static_kwargs normalize_latents is False: must be True"),
        ({"pixelnorm_epsilon": 0.0}, "pixelnorm_epsilon is 0.0: must be above 0, and 1 at most"),
        ({"pixelnorm_epsilon": "1"}, "static_kwargs pixelnorm_epsilon is '1': must be a number such as 1e-08"),
        ({"fused_scale": False}, "static_kwargs fused_scale is False: the variables are those of True"),
        ({"resolution": 32}, "static_kwargs resolution is 32: the variables are those of 16"),
        ({"num_channels": 1}, "static_kwargs num_channels is 1: the variables are those of 3"),
        ({"latent_size": 27}, "static_kwargs latent_size is 27: the variables are those of 24"),
        ({"label_size": 27}, "label_size is 27: latents and labels together are 27"),
        ({"label_size": "3"}, "label_size is '3': latents and labels together are 27"),
        ({"label_size": 4}, "static_kwargs say fmap_base 128, fmap_decay 1.0, fmap_max 24: not the 23 latents"),
        ({"tanh_at_end": True}, "static_kwargs tanh_at_end is True: it changes the images, and is not supported"),
        ({"use_batchnorm": True}, "static_kwargs use_batchnorm is True: it changes the images, and is not supported"),
        (
            {"fmap_base": 64},
            "static_kwargs say fmap_base 64, fmap_decay 1.0, fmap_max 24: not the 24 feature maps at 8x8",
        ),
        (
            {"fmap_max": 512},
            "static_kwargs say fmap_base 128, fmap_decay 1.0, fmap_max 512: not the 24 feature maps at",
        ),
        (
            {"fmap_decay": -1},
            "static_kwargs say fmap_base 128, fmap_decay -1, fmap_max 24: not the 24 feature maps at 4",
        ),
        (
            {"fmap_decay": "1"},
            "static_kwargs say fmap_base 128, fmap_decay '1', fmap_max 24: not the 24 feature maps at",
        ),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_arguments_that_do_not_fit_are_named(kwargs: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    averaged = networks()[2]
    averaged.static_kwargs |= kwargs
    assert refused(write(tmp_path / "network.pkl", averaged)).startswith(sentence)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda variables: variables.pop(name)


def having(name: str, array: Any) -> Callable[[dict[str, Any]], None]:
    return lambda variables: variables.update({name: array})


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("lod"), "holds no variable lod, which a generator of 16x16 images has"),
        (without("4x4/Dense/weight"), "holds no variable 4x4/Dense/weight"),
        (without("8x8/Conv1/bias"), "holds no variable 8x8/Conv1/bias"),
        (without("8x8/Conv1/weight"), "holds no variable 8x8/Conv1/weight, which a generator of 16x16 images has"),
        (without("ToRGB_lod2/bias"), "holds no variable ToRGB_lod2/bias, which a generator of 16x16 images has"),
        (
            without("16x16/Conv0_up/weight"),
            "holds no variable 16x16/Conv0_up/weight, which a generator of 16x16 images",
        ),
        (having("16x16/Conv0/weight", zeros(1)), "holds the variable 16x16/Conv0/weight, which a generator of 16x16"),
        (having("ToRGB_lod3/bias", zeros(3)), "holds the variable ToRGB_lod3/bias, which a generator of 16x16 images"),
        (having("32x32/Conv1/bias", zeros(8)), "static_kwargs resolution is 16: the variables are those of 32"),
        (
            having("12x12/Conv1/bias", zeros(8)),
            "holds the variable 12x12/Conv1/bias, which a generator of 16x16 images",
        ),
        (having("24x24/Conv1/bias", zeros(8)), "resolution is 24: must be a power of two from 4 to 1024"),
        (having("2048x2048/Conv1/bias", zeros(8)), "holds no variable 32x32/Conv1/bias"),
        (having("ToRGB_lod0/bias", zeros(2)), "channels is 2: must be 1 or 3"),
        (
            having("8x8/Conv1/bias", zeros(20)),
            "feature maps 24 at 4x4, 20 at 8x8, 16 at 16x16 follow from no fmap_base and fmap_max",
        ),
        (having("4x4/Conv/bias", zeros()), "4x4/Conv/bias is a single number"),
        (having("4x4/Dense/bias", zeros(23)), "4x4/Dense/bias has shape (23,), not (24,)"),
        (having("4x4/Dense/weight", zeros(27, 512)), "4x4/Dense/weight has shape (27, 512), not (27, 384)"),
        (
            having("16x16/Conv0_up/weight", zeros(3, 3, 24, 16)),
            "16x16/Conv0_up/weight has shape (3, 3, 24, 16), not (3, 3, 1",
        ),
        (
            having("8x8/Conv1/weight", zeros(3, 3, 24, 24) + np.nan),
            "8x8/Conv1/weight holds numbers that are not finite",
        ),
        (having("lod", zeros(1)), "lod has shape (1,), not ()"),
        (having("lod", np.float32(2.5)), "lod is 2.5: must lie between 0 and 2"),
        (having("lod", np.float32(-0.5)), "lod is -0.5: must lie between 0 and 2"),
        (having("lod", 1.5), "lod is no array"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_variables_that_do_not_fit_are_named(
    change: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path
) -> None:
    averaged = networks()[2]
    change(averaged.variables)
    assert refused(write(tmp_path / "network.pkl", averaged)).startswith(sentence)


def test_a_discriminator_is_no_generator(tmp_path: Path) -> None:
    generator, discriminator, averaged = networks()
    alone = write(tmp_path / "network.pkl", Network("D", "D_paper", {}, averaged.variables))
    assert refused(alone) == "build_func_name is 'D_paper': must be 'G_paper', a generator"
    last = write(tmp_path / "network.pkl", (generator, averaged, discriminator))
    assert refused(last) == "build_func_name is 'D_paper': must be 'G_paper', a generator"


# Files that are damaged, hostile or none


def test_nothing_in_a_hostile_file_is_run(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    averaged = networks()[2]
    averaged.static_kwargs["resolution"] = Call()
    path = write(tmp_path / "network.pkl", averaged)
    assert refused(path) == f"asks for {os.name}.system, which is no part of NVIDIA's ProGAN; it was not run"
    assert [file.name for file in tmp_path.iterdir()] == ["network.pkl"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<html>Too many users have viewed this file</html>", "is no binary pickle (it begins with b'<html>Too ma')"),
        (pickle.dumps([1, 2], 4)[:-1], "is damaged or cut short (pickle exhausted before seeing STOP)"),
        (pickle.dumps({"G": 1}), "holds something other than three networks (G, D, Gs) or a single one"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "network.pkl").write_bytes(content)
    assert refused(tmp_path / "network.pkl") == sentence


def test_a_place_without_a_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pkl") == "no such file"
    assert refused(tmp_path) == "is no file"
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "is no file"


def test_a_file_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(Path("-c"), networks())
    assert load_nvidia_pickle(path).provenance["origin"] == "-c"


def test_a_file_larger_than_any_network_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "network.pkl").open("wb") as file:
        file.truncate(2**30 + 1)
    assert refused(tmp_path / "network.pkl") == "takes 1073741825 bytes, more than 1073741824"


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_a_file_that_takes_too_much_memory(tmp_path: Path) -> None:
    text = pickle.BINUNICODE + (2**20).to_bytes(4, "little") + b"x" * 2**20 + b"q\x01"
    again = b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R"
    (tmp_path / "network.pkl").write_bytes(b"\x80\x02c_codecs\nencode\nq\x00" + text + b"](" + again * 10_000 + b"e.")
    assert refused(tmp_path / "network.pkl") == "takes more memory to read than a file of its size should"


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_a_file_that_takes_too_much_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "CPU_SECONDS", 1)
    (tmp_path / "network.pkl").write_bytes(b"\x80\x02})" + b"q\x00h\x00\x86" * 64 + b"Ns.")
    assert refused(tmp_path / "network.pkl") == "takes more than 1 seconds of computing to read"


def test_a_file_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "WALL_CLOCK_SECONDS", 0.01)
    assert refused(write(tmp_path / "network.pkl", networks())) == "takes longer than 0.01 seconds to read"


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("kill -SEGV $$", "broke the process that read it (Segmentation fault)"),
        ("kill -KILL $$", "broke the process that read it (Killed)"),
        ("echo Traceback >&2; echo OSError: no room >&2; exit 1", "broke the process that read it (OSError: no room)"),
        ("exit 0", "was read, but what the reader made of it is not usable ([Errno 2] No such file or directory"),
    ],
)
def test_a_reader_that_breaks(end: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{end}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert refused(tmp_path / "network.pkl").startswith(sentence)
