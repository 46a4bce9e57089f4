"""NVIDIA's pickled networks as a source: the averaged generator of a (G, D, Gs), or a generator of its own.

Their TensorFlow code stores weights before scaling, as ours does, under names such as `8x8/Conv0/weight`. Its graphs
are channels first: the columns of the dense layer count channel, y, x. `Conv0_up` is the kernel of a transposed
convolution, [height, width, out, in] and flipped. `lod` says how many doublings were still missing on saving.
"""

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from progan_service.checks import resolutions_up_to
from progan_service.errors import BadInputError, ConfigError
from progan_service.export.trained import TrainedGenerator
from progan_service.host.faults import named
from progan_service.host.files import temporary_directory, temporary_files
from progan_service.model.config import NetworkConfig, network_of
from progan_service.model.networks import Generator
from progan_service.sources.nvidia import restricted_pickle
from progan_service.sources.nvidia.restricted_pickle import Plain, RefusedPickleError, StoredGenerator

WALL_CLOCK_SECONDS = 300
CPU_SECONDS = restricted_pickle.CPU_SECONDS

LICENSE = "The file states none; the networks that NVIDIA released are under CC BY-NC 4.0 (non-commercial)."

Variables = Mapping[str, NDArray[np.float32]]
Table = dict[str, tuple[str, tuple[int, ...]]]

# Arguments of their generator: those that must have a value, and those that do not change what it computes.
_REQUIRED = {"use_wscale": True, "use_pixelnorm": True, "use_leakyrelu": True, "normalize_latents": True}
_FREE = ("structure", "dtype", "is_template_graph")
_SIZES = ("resolution", "num_channels", "label_size", "latent_size", "fused_scale")  # the variables show these, too
_FEATURES = {"fmap_base": 8192, "fmap_decay": 1.0, "fmap_max": 512}  # and their defaults
# It ignores all others, such as the arguments of a discriminator. Of the Theano code's, these change images.
_UNSUPPORTED = ("tanh_at_end", "use_batchnorm", "use_layernorm")


class NvidiaPickleError(BadInputError):
    """A pickle cannot be read or holds an unsupported network; the message names the file and the reason."""


def load_nvidia_pickle(path: Path) -> TrainedGenerator:
    """Return the generator of a pickle, at the resolution that it had grown to.

    Another process reads the file, and runs nothing that it contains.

    Raises NvidiaPickleError for a file that is missing, damaged, hostile, too large or of another network.
    """
    try:
        if path.is_file():
            with named(path):
                path.open("rb").close()
        stored = _read_apart(path)
        if stored.build_func_name != "G_paper":
            raise RefusedPickleError(f"build_func_name is {stored.build_func_name!r}: must be 'G_paper', a generator")
        config = _network_config(stored)
        _check_arguments(stored, config)
        table = _table(config, _is_fused(stored.variables))
        _check_variables(stored.variables, table, config)
        resolution, alpha = _growth(float(stored.variables["lod"]), config.resolution)
    except (RefusedPickleError, ConfigError) as error:
        raise NvidiaPickleError(f"{path}: {error}") from error
    return TrainedGenerator(
        _generator(config, stored.variables, table), resolution, alpha, (), _provenance(path, stored)
    )


def _read_apart(path: Path) -> StoredGenerator:
    with temporary_directory() as directory:
        result = directory / "generator.npz"
        command = [sys.executable, "-I", "-m", restricted_pickle.__name__, str(path.absolute()), str(result)]
        try:
            reader = subprocess.run(
                [*command, str(CPU_SECONDS)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=WALL_CLOCK_SECONDS,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # each thread takes memory
            )
        except subprocess.TimeoutExpired:
            raise RefusedPickleError(f"takes longer than {WALL_CLOCK_SECONDS} seconds to read") from None
        if reader.returncode == restricted_pickle.NOT_WRITTEN:
            with temporary_files():
                raise OSError(int(reader.stdout), "not written")
        if reader.returncode != 0:
            raise RefusedPickleError(_why(reader))
        return StoredGenerator.load(result)


def _why(reader: "subprocess.CompletedProcess[bytes]") -> str:
    if reader.returncode == restricted_pickle.REFUSED:
        return reader.stdout.decode(errors="replace").strip()
    if reader.returncode == -signal.SIGXCPU:
        return f"takes more than {CPU_SECONDS} seconds of computing to read"
    if reader.returncode < 0:
        return f"broke the process that read it ({signal.strsignal(-reader.returncode)})"
    last = reader.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"broke the process that read it ({last})"


def _network_config(stored: StoredGenerator) -> NetworkConfig:
    """Return the configuration of the networks, derived from the sizes of their variables."""
    variables = stored.variables
    sides = [int(match[1]) for name in variables if (match := re.match(r"(\d{1,4})x\1/", name))]
    resolution = max(sides, default=4)
    widths = {
        r: _size(variables, f"{r}x{r}/{'Conv' if r == 4 else 'Conv1'}/bias") for r in resolutions_up_to(resolution)
    }
    inputs = _size(variables, "4x4/Dense/weight")
    labels = stored.static_kwargs.get("label_size", 0)
    if type(labels) is not int or not 0 <= labels < inputs:
        raise RefusedPickleError(f"label_size is {labels!r}: latents and labels together are {inputs}")
    return network_of(
        resolution,
        widths,
        inputs - labels,
        channels=_size(variables, "ToRGB_lod0/bias"),
        label_size=labels,
        d_pool="pre_act" if _is_fused(stored.discriminator or variables) else "post_act",
        pixelnorm_epsilon=_pixelnorm_epsilon(stored.static_kwargs),
    )


def _pixelnorm_epsilon(kwargs: Mapping[str, Plain]) -> float:
    """Return what their pixel norm adds: 1e-8, or 1e-4 in the configuration for half precision."""
    epsilon = kwargs.get("pixelnorm_epsilon", 1e-8)
    if not isinstance(epsilon, float):
        raise RefusedPickleError(f"static_kwargs pixelnorm_epsilon is {epsilon!r}: must be a number such as 1e-08")
    return epsilon


def _size(variables: Variables, name: str) -> int:
    """Return the length of the first axis of a variable."""
    if name not in variables:
        raise RefusedPickleError(f"holds no variable {name}")
    if variables[name].ndim == 0:
        raise RefusedPickleError(f"{name} is a single number")
    return len(variables[name])


def _is_fused(names: Mapping[str, object] | tuple[str, ...]) -> bool:
    return any("/Conv0_up/" in name or "/Conv1_down/" in name for name in names)


def _check_arguments(stored: StoredGenerator, config: NetworkConfig) -> None:
    """Raise RefusedPickleError for arguments that our generator does not support or that contradict the variables."""
    found: dict[str, Plain] = {
        "resolution": config.resolution,
        "num_channels": config.channels,
        "label_size": config.label_size,
        "latent_size": config.latents,
        "fused_scale": _is_fused(stored.variables),
    }
    for name, value in stored.static_kwargs.items():
        if name in _REQUIRED and value != _REQUIRED[name]:
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: must be {_REQUIRED[name]!r}")
        if name in found and value != found[name] and (name, value) != ("latent_size", None):
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: the variables are those of {found[name]!r}")
        if name in _UNSUPPORTED and value:
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: it changes the images, and is not supported")
    _check_feature_arguments(stored.static_kwargs, config)


def _ignored_arguments(kwargs: Mapping[str, Plain]) -> list[str]:
    """Return the names of the arguments that the generator ignores."""
    known = {*_REQUIRED, *_FREE, *_FEATURES, *_SIZES, "pixelnorm_epsilon"}
    return [name for name in kwargs if name not in known]


def _check_feature_arguments(kwargs: Mapping[str, Plain], config: NetworkConfig) -> None:
    """Feature maps of the block at 2^(s + 1): min(fmap_base / 2^(s fmap_decay), fmap_max). With s = 0: the latents."""
    if not _FEATURES.keys() & kwargs.keys():
        return
    numbers = {name: kwargs.get(name, default) for name, default in _FEATURES.items()}
    base, decay, most = [n if isinstance(n, int | float) and 0 <= n <= 2**30 else math.nan for n in numbers.values()]
    counts = {f"feature maps at {r}x{r}": (r // 2, config.features(r)) for r in resolutions_up_to(config.resolution)}
    if kwargs.get("latent_size") is None:
        counts["latents"] = (1, config.latents)
    for what, (divisor, found) in counts.items():
        number = min(base * float(divisor) ** -decay, most)
        if math.isnan(number) or int(number) != found:
            given = ", ".join(f"{name} {number!r}" for name, number in numbers.items())
            raise RefusedPickleError(f"static_kwargs say {given}: not the {found} {what}")


def _table(config: NetworkConfig, fused: bool) -> Table:
    """Return for each stored name the path in our generator and the shape in the file."""
    width, inputs = config.features(4), config.latents + config.label_size
    table: Table = {
        "4x4/Dense/weight": ("4x4/dense/kernel", (inputs, 16 * width)),
        "4x4/Dense/bias": ("4x4/bias", (width,)),
    }

    def convolution(name: str, path: str, shape: tuple[int, ...], outputs: int) -> None:
        table[f"{name}/weight"] = (f"{path}/kernel", shape)
        table[f"{name}/bias"] = (f"{path}/bias", (outputs,))

    convolution("4x4/Conv", "4x4/conv", (3, 3, width, width), width)
    for r in resolutions_up_to(config.resolution)[1:]:
        before, width = width, config.features(r)
        up = ("Conv0_up", (3, 3, width, before)) if fused else ("Conv0", (3, 3, before, width))
        convolution(f"{r}x{r}/{up[0]}", f"{r}x{r}/conv0", up[1], width)
        convolution(f"{r}x{r}/Conv1", f"{r}x{r}/conv1", (3, 3, width, width), width)
    for lod, r in enumerate(reversed(resolutions_up_to(config.resolution))):
        shape = (1, 1, config.features(r), config.channels)
        convolution(f"ToRGB_lod{lod}", f"to_rgb_{r}x{r}", shape, config.channels)
    return table


def _check_variables(variables: Variables, table: Table, config: NetworkConfig) -> None:
    shapes = {"lod": (), **{name: shape for name, (_, shape) in table.items()}}
    network = f"a generator of {config.resolution}x{config.resolution} images"
    if missing := shapes.keys() - variables.keys():
        raise RefusedPickleError(f"holds no variable {min(missing)}, which {network} has")
    if surplus := variables.keys() - shapes.keys():
        raise RefusedPickleError(f"holds the variable {min(surplus)}, which {network} does not have")
    for name, shape in shapes.items():
        if variables[name].shape != shape:
            raise RefusedPickleError(f"{name} has shape {variables[name].shape}, not {shape}")
        if not np.isfinite(variables[name]).all():
            raise RefusedPickleError(f"{name} holds numbers that are not finite")


def _growth(lod: float, final_resolution: int) -> tuple[int, float]:
    """Return the resolution that it had grown to, and how far that was blended in."""
    last = final_resolution.bit_length() - 3
    if not 0 <= lod <= last:
        raise RefusedPickleError(f"lod is {lod:g}: must lie between 0 and {last}")
    return final_resolution >> math.floor(lod), 1.0 - (lod - math.floor(lod))


def _generator(config: NetworkConfig, variables: Variables, table: Table) -> Generator:
    generator = Generator(config, name="generator_ema")
    weights = {weight.path.split("/", 1)[1]: weight for weight in generator.weights}
    for name, (path, _) in table.items():
        weights[path].assign(_our_layout(name, variables[name]))
    return generator


def _our_layout(name: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an array in our layout.

    Dense columns become y, x, channel; kernels become [height, width, in, out] of a convolution of upscaled features.
    """
    if name == "4x4/Dense/weight":
        inputs = len(array)
        return array.reshape(inputs, -1, 4, 4).transpose(0, 2, 3, 1).reshape(inputs, -1)
    if name.endswith("/Conv0_up/weight"):
        return array[::-1, ::-1].transpose(0, 1, 3, 2)
    return array


def _provenance(path: Path, stored: StoredGenerator) -> dict[str, object]:
    ignored = _ignored_arguments(stored.static_kwargs)
    return {
        "source": "nvidia pickle",
        "origin": path.name,
        "sha256": stored.sha256,
        "license": LICENSE,
        "network_name": stored.name,
        "static_kwargs": dict(stored.static_kwargs),
        **({"ignored_arguments": ignored} if ignored else {}),
    }
