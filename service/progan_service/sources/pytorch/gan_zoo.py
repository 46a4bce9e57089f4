"""Generators of pytorch_GAN_zoo (PGAN): the paper's, with two differences that our network takes in exactly.

Its first layer has a bias for each pixel and channel (`first_bias`). All its layers multiply their bias, too, by the
scale of their weights, sqrt(2 / fan-in), also that of the first (ours is a quarter of it) and those that give images
(ours is 1 / sqrt(fan-in)).
"""

import math

from progan_service.checks import resolutions_up_to
from progan_service.export.trained import TrainedGenerator
from progan_service.model.config import NetworkConfig, network_of
from progan_service.sources.pickles.fitting import Array, Place, Table, Variables, check_variables, filled, size
from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator
from progan_service.sources.pytorch.genforce import channels_last
from progan_service.sources.pytorch.layouts import BRIDGE

LICENSE = "The file states none; ask who trained it."

# Its configuration: what must have these values, and the losses whose generators end without a tanh.
_REQUIRED = {"leakyReluLeak": 0.2, "perChannelNormalization": True}
_LINEAR = ("WGANGP", "WGANGP2", "Logistic")


def trained(stored: StoredGenerator, origin: str) -> TrainedGenerator:
    """Return the generator of a checkpoint. Raises RefusedPickleError or ConfigError when it is another network."""
    equalized, fade = _checked(stored)
    config = _network(stored.variables, len(stored.label_names))
    table = _table(config, equalized)
    check_variables(stored.variables, {name: place.shape for name, place in table.items()}, config)
    provenance = {
        "source": "pytorch checkpoint",
        "form": stored.builder,
        "origin": origin,
        "sha256": stored.sha256,
        "license": LICENSE,
        "network_name": stored.name,
        "config": dict(stored.arguments),
    }
    generator = filled(config, stored.variables, table)
    return TrainedGenerator(generator, config.resolution, 1.0 - fade, stored.label_names, provenance)


def _checked(stored: StoredGenerator) -> tuple[bool, float]:
    """Return whether learning rates were equalized, and how much of the previous resolution is blended in."""
    arguments = stored.arguments
    for name, value in _REQUIRED.items():
        if arguments.get(name, value) != value:
            raise RefusedPickleError(f"{name} is {arguments[name]!r}: must be {value!r}")
    loss = arguments.get("lossCriterion", "WGANGP")
    if loss not in _LINEAR:
        raise RefusedPickleError(f"lossCriterion is {loss!r}: must be one of {', '.join(_LINEAR)}")
    fade = arguments.get("alpha", 0)
    if not isinstance(fade, int | float) or not 0 <= fade <= 1:
        raise RefusedPickleError(f"alpha is {fade!r}: must be a number from 0 to 1")
    labels, names = arguments.get("categoryVectorDim", 0), len(stored.label_names)
    if labels != names:
        raise RefusedPickleError(f"categoryVectorDim is {labels!r}: attribKeysOrder has {names} values")
    equalized = arguments.get("equalizedlR", True)
    if not isinstance(equalized, bool):
        raise RefusedPickleError(f"equalizedlR is {equalized!r}: must be True or False")
    return equalized, float(fade)


def _network(variables: Variables, labels: int) -> NetworkConfig:
    if "formatLayer.weight" not in variables:
        raise RefusedPickleError(f"holds no variable formatLayer.weight: is no PGAN; {BRIDGE}")
    doublings = 0
    while f"toRGBLayers.{doublings + 1}.bias" in variables:
        doublings += 1
    resolutions = resolutions_up_to(4 << doublings)
    widths = {4: size(variables, "groupScale0.0.bias")} | {
        r: size(variables, f"scaleLayers.{number}.1.bias") for number, r in enumerate(resolutions[1:])
    }
    shape = variables["formatLayer.weight"].shape
    if len(shape) != 2 or shape[1] <= labels:
        raise RefusedPickleError(f"formatLayer.weight has shape {shape}: must be (16 C, latents and {labels} labels)")
    return network_of(
        resolutions[-1],
        widths,
        shape[1] - labels,
        channels=size(variables, f"toRGBLayers.{doublings}.bias"),
        label_size=labels,
        d_pool="post_act",
        first_bias="pixel",
    )


def _table(config: NetworkConfig, equalized: bool) -> Table:
    table: dict[str, Place] = {}

    def layer(name: str, path: str, inputs: int, outputs: int, side: int, gain: float = math.sqrt(2)) -> None:
        fan_in = side * side * inputs
        theirs = math.sqrt(2 / fan_in) if equalized else 1.0
        ours = gain / math.sqrt(fan_in)
        table[f"{name}.weight"] = Place(
            f"{path}/kernel", (outputs, inputs, side, side), lambda kernel: channels_last(kernel) * (theirs / ours)
        )
        table[f"{name}.bias"] = Place(f"{path}/bias", (outputs,), lambda bias: bias * theirs)

    inputs, width = config.latents + config.label_size, config.features(4)
    theirs = math.sqrt(2 / inputs) if equalized else 1.0
    ours = math.sqrt(2 / inputs) / 4
    table["formatLayer.weight"] = Place(
        "4x4/dense/kernel", (16 * width, inputs), lambda kernel: _pixels(kernel.T).reshape(inputs, -1) * (theirs / ours)
    )
    table["formatLayer.bias"] = Place("4x4/bias", (16 * width,), lambda bias: _pixels(bias[None])[0] * theirs)
    layer("groupScale0.0", "4x4/conv", width, width, 3)
    for number, r in enumerate(resolutions_up_to(config.resolution)):
        before, width = width, config.features(r)
        if r > 4:
            layer(f"scaleLayers.{number - 1}.0", f"{r}x{r}/conv0", before, width, 3)
            layer(f"scaleLayers.{number - 1}.1", f"{r}x{r}/conv1", width, width, 3)
        layer(f"toRGBLayers.{number}", f"to_rgb_{r}x{r}", width, config.channels, 1, gain=1.0)
    return table


def _pixels(rows: Array) -> Array:
    """[N, 16 C] in the order channel, y, x -> [N, 4, 4, C]."""
    return rows.reshape(len(rows), -1, 4, 4).transpose(0, 2, 3, 1)
