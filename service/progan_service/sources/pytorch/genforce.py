"""Generators of genforce: the paper's, and NVIDIA's networks in PyTorch.

Weights are stored before scaling, as ours are, channels first. Pixel norms stand before the layers: that is the same
network. The first layer is a 4x4 convolution of one pixel that is padded by three, so its kernel is flipped.
"""

from progan_service.checks import resolutions_up_to
from progan_service.export.trained import TrainedGenerator
from progan_service.model.config import NetworkConfig, network_of
from progan_service.sources.pickles.fitting import (
    Array,
    Place,
    Table,
    Variables,
    check_variables,
    filled,
    growth,
    size,
)
from progan_service.sources.pickles.restricted import RefusedPickleError
from progan_service.sources.pickles.stored import StoredGenerator
from progan_service.sources.pytorch.layouts import BRIDGE

LICENSE = (
    "The file states none; the networks that genforce released are NVIDIA's, which are under CC BY-NC 4.0 "
    "(non-commercial)."
)
# Its settings that change images and that no file tells.
ASSUMED = ["use_wscale=True", "fused_scale=False", "final_tanh=False"]


def trained(stored: StoredGenerator, origin: str) -> TrainedGenerator:
    """Return the generator of a checkpoint. Raises RefusedPickleError or ConfigError when it is another network."""
    if labels := stored.arguments.get("label_size"):
        raise RefusedPickleError(
            f"is a network with {labels} labels; those of genforce scale latents, but not labels, by their number, "
            "which this program does not do"
        )
    config = _network(stored.variables)
    table = _table(config)
    check_variables(stored.variables, {"lod": (), **{name: place.shape for name, place in table.items()}}, config)
    resolution, alpha = growth(float(stored.variables["lod"]), config.resolution)
    provenance = {
        "source": "pytorch checkpoint",
        "form": stored.builder,
        "origin": origin,
        "sha256": stored.sha256,
        "license": LICENSE,
        "network_name": stored.name,
        "assumed": ASSUMED,
    }
    return TrainedGenerator(filled(config, stored.variables, table), resolution, alpha, (), provenance)


def _network(variables: Variables) -> NetworkConfig:
    if "layer0.weight" not in variables:
        raise RefusedPickleError(f"holds no variable layer0.weight: is no PGGAN of genforce; {BRIDGE}")
    shape = variables["layer0.weight"].shape
    if len(shape) != 4:
        raise RefusedPickleError(f"layer0.weight has shape {shape}: must be (C, latents, 4, 4)")
    doublings = 0
    while f"output{doublings + 1}.bias" in variables:
        doublings += 1
    resolution = 4 << doublings
    widths = {
        r: size(variables, f"layer{2 * number + 1}.bias") for number, r in enumerate(resolutions_up_to(resolution))
    }
    return network_of(
        resolution, widths, shape[1], channels=size(variables, f"output{doublings}.bias"), d_pool="post_act"
    )


def _table(config: NetworkConfig) -> Table:
    """Return the place of each variable but lod."""
    table, before = {}, config.latents

    def layer(name: str, path: str, inputs: int, outputs: int, side: int) -> None:
        table[f"{name}.weight"] = Place(f"{path}/kernel", (outputs, inputs, side, side), channels_last)
        table[f"{name}.bias"] = Place(f"{path}/bias", (outputs,))

    for number, r in enumerate(resolutions_up_to(config.resolution)):
        width = config.features(r)
        if r == 4:
            table["layer0.weight"] = Place("4x4/dense/kernel", (width, before, 4, 4), _dense)
            table["layer0.bias"] = Place("4x4/bias", (width,))
            layer("layer1", "4x4/conv", width, width, 3)
        else:
            layer(f"layer{2 * number}", f"{r}x{r}/conv0", before, width, 3)
            layer(f"layer{2 * number + 1}", f"{r}x{r}/conv1", width, width, 3)
        layer(f"output{number}", f"to_rgb_{r}x{r}", width, config.channels, 1)
        before = width
    return table


def channels_last(kernel: Array) -> Array:
    """[out, in, height, width] -> [height, width, in, out]."""
    return kernel.transpose(2, 3, 1, 0)


def _dense(kernel: Array) -> Array:
    """[out, in, 4, 4] of the convolution -> [in, 16 out], in the order y, x, channel."""
    latents = kernel.shape[1]
    return kernel[:, :, ::-1, ::-1].transpose(1, 2, 3, 0).reshape(latents, -1)
