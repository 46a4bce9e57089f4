"""NVIDIA's pickled networks as a source: the averaged generator of a (G, D, Gs), or a generator of its own.

Their TensorFlow code stores weights before scaling, as ours does, under names such as `8x8/Conv0/weight`. Its graphs
are channels first: the columns of the dense layer count channel, y, x. `Conv0_up` is the kernel of a transposed
convolution, [height, width, out, in] and flipped. `lod` says how many doublings were still missing on saving.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from progan_service.checks import resolutions_up_to
from progan_service.errors import BadInputError, ConfigError
from progan_service.export.trained import TrainedGenerator
from progan_service.model.config import NetworkConfig, network_of
from progan_service.sources.nvidia import networks_pickle
from progan_service.sources.pickles.apart import read_apart
from progan_service.sources.pickles.fitting import Array, Place, Table, check_variables, filled, growth, size
from progan_service.sources.pickles.restricted import Plain, RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator

LICENSE = "The file states none; the networks that NVIDIA released are under CC BY-NC 4.0 (non-commercial)."

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
        stored = read_apart(networks_pickle.__name__, path)
        if stored.builder != "G_paper":
            raise RefusedPickleError(f"build_func_name is {stored.builder!r}: must be 'G_paper', a generator")
        config = _network_config(stored)
        _check_arguments(stored, config)
        table = _table(config, _is_fused(stored.variables))
        shapes = {name: place.shape for name, place in table.items()}
        check_variables(stored.variables, {"lod": (), **shapes}, config)
        resolution, alpha = growth(float(stored.variables["lod"]), config.resolution)
    except (RefusedPickleError, ConfigError) as error:
        raise NvidiaPickleError(f"{path}: {error}") from error
    return TrainedGenerator(filled(config, stored.variables, table), resolution, alpha, (), _provenance(path, stored))


def _network_config(stored: StoredGenerator) -> NetworkConfig:
    """Return the configuration of the networks, derived from the sizes of their variables."""
    variables = stored.variables
    sides = [int(match[1]) for name in variables if (match := re.match(r"(\d{1,4})x\1/", name))]
    resolution = max(sides, default=4)
    widths = {
        r: size(variables, f"{r}x{r}/{'Conv' if r == 4 else 'Conv1'}/bias") for r in resolutions_up_to(resolution)
    }
    inputs = size(variables, "4x4/Dense/weight")
    labels = stored.arguments.get("label_size", 0)
    if type(labels) is not int or not 0 <= labels < inputs:
        raise RefusedPickleError(f"label_size is {labels!r}: latents and labels together are {inputs}")
    return network_of(
        resolution,
        widths,
        inputs - labels,
        channels=size(variables, "ToRGB_lod0/bias"),
        label_size=labels,
        d_pool="pre_act" if _is_fused(stored.discriminator or variables) else "post_act",
        pixelnorm_epsilon=_pixelnorm_epsilon(stored.arguments),
    )


def _pixelnorm_epsilon(kwargs: Mapping[str, Plain]) -> float:
    """Return what their pixel norm adds: 1e-8, or 1e-4 in the configuration for half precision."""
    epsilon = kwargs.get("pixelnorm_epsilon", 1e-8)
    if not isinstance(epsilon, float):
        raise RefusedPickleError(f"static_kwargs pixelnorm_epsilon is {epsilon!r}: must be a number such as 1e-08")
    return epsilon


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
    for name, value in stored.arguments.items():
        if name in _REQUIRED and value != _REQUIRED[name]:
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: must be {_REQUIRED[name]!r}")
        if name in found and value != found[name] and (name, value) != ("latent_size", None):
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: the variables are those of {found[name]!r}")
        if name in _UNSUPPORTED and value:
            raise RefusedPickleError(f"static_kwargs {name} is {value!r}: it changes the images, and is not supported")
    _check_feature_arguments(stored.arguments, config)


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
    """Return the place of each variable but lod."""
    width, inputs = config.features(4), config.latents + config.label_size
    table: dict[str, Place] = {
        "4x4/Dense/weight": Place("4x4/dense/kernel", (inputs, 16 * width), _dense),
        "4x4/Dense/bias": Place("4x4/bias", (width,)),
    }

    def convolution(name: str, path: str, place: Place, outputs: int) -> None:
        table[f"{name}/weight"] = place
        table[f"{name}/bias"] = Place(f"{path}/bias", (outputs,))

    def plain(name: str, path: str, shape: tuple[int, ...]) -> None:
        convolution(name, path, Place(f"{path}/kernel", shape), shape[-1])

    plain("4x4/Conv", "4x4/conv", (3, 3, width, width))
    for r in resolutions_up_to(config.resolution)[1:]:
        before, width = width, config.features(r)
        if fused:
            place = Place(f"{r}x{r}/conv0/kernel", (3, 3, width, before), _upscaling)
            convolution(f"{r}x{r}/Conv0_up", f"{r}x{r}/conv0", place, width)
        else:
            plain(f"{r}x{r}/Conv0", f"{r}x{r}/conv0", (3, 3, before, width))
        plain(f"{r}x{r}/Conv1", f"{r}x{r}/conv1", (3, 3, width, width))
    for lod, r in enumerate(reversed(resolutions_up_to(config.resolution))):
        plain(f"ToRGB_lod{lod}", f"to_rgb_{r}x{r}", (1, 1, config.features(r), config.channels))
    return table


def _dense(kernel: Array) -> Array:
    """Bring its columns into the order y, x, channel."""
    inputs = len(kernel)
    return kernel.reshape(inputs, -1, 4, 4).transpose(0, 2, 3, 1).reshape(inputs, -1)


def _upscaling(kernel: Array) -> Array:
    """Return the kernel [height, width, in, out] of a convolution of upscaled features."""
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)


def _provenance(path: Path, stored: StoredGenerator) -> dict[str, object]:
    ignored = _ignored_arguments(stored.arguments)
    return {
        "source": "nvidia pickle",
        "origin": path.name,
        "sha256": stored.sha256,
        "license": LICENSE,
        "network_name": stored.name,
        "static_kwargs": dict(stored.arguments),
        **({"ignored_arguments": ignored} if ignored else {}),
    }
