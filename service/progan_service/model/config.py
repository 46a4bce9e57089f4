"""The shape of the networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from progan_service.checks import Rule, at_least, between, is_power_of_two, require
from progan_service.errors import ConfigError
from progan_service.settings.field import REQUIRED, Settings, setting

_RESOLUTION = Rule("must be a power of two from 4 to 1024", lambda r: 4 <= r <= 1024 and is_power_of_two(r))


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The shape of both networks (paper, appendix A). The defaults are the paper's full-size networks.

    channels and label_size come from the dataset:
    channels      1 (grey) or 3 (RGB)
    label_size    length of the one-hot label vectors, 0 without labels

    d_pool        "pre_act": the discriminator halves features before bias and activation, as the original with fused
                  layers does; "post_act": after them, as the original without

    pixelnorm_epsilon   what the generator's pixel norm adds to the mean square
    first_bias          bias of the generator's first layer: one number a "channel", or one a "pixel" of each channel
    """

    resolution: int = setting(
        REQUIRED,
        "side of the final images in pixels, a power of two",
        _RESOLUTION,
        group="network",
        metavar="R",
        default_help="that of the preset or dataset",
    )
    channels: int = 3
    label_size: int = 0
    fmap_base: int = setting(8192, "feature maps at resolution R are 2 N / R, at most --fmap-max")
    fmap_max: int = setting(512, "maximum number of feature maps", at_least(1))
    latent_size: int = setting(0, "size of the latents", between(0, 2**16), default_help="that of --fmap-max")
    d_pool: Literal["pre_act", "post_act"] = setting(
        "pre_act", "where the discriminator downscales: before or after bias and activation"
    )
    pixelnorm_epsilon: float = 1e-8
    first_bias: Literal["channel", "pixel"] = "channel"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.channels in (1, 3), "channels", self.channels, "must be 1 or 3")
        require(self.label_size >= 0, "label_size", self.label_size, "must be 0 or more")
        epsilon = self.pixelnorm_epsilon
        require(0 < epsilon <= 1, "pixelnorm_epsilon", epsilon, "must be above 0, and 1 at most")
        require(
            self.features(self.resolution) >= 1,
            "fmap_base",
            self.fmap_base,
            f"must be at least {self.resolution // 2} for {self.resolution}x{self.resolution} images",
        )

    def features(self, resolution: int) -> int:
        """Return the feature maps at `resolution`: min(fmap_base / 2^s, fmap_max) with 2^s = resolution / 2."""
        return min(self.fmap_base * 2 // resolution, self.fmap_max)

    @property
    def latents(self) -> int:
        """Return the size of the latents."""
        return self.latent_size or min(self.fmap_base, self.fmap_max)


def network_of(resolution: int, features: Mapping[int, int], latents: int, **others: Any) -> NetworkConfig:
    """Return the configuration with these feature maps, given for each resolution, and this size of latents.

    others   its other fields
    Raises ConfigError when there is none.
    """
    least_base = max(number * r // 2 for r, number in features.items())
    configs = (
        NetworkConfig(resolution, fmap_base=max(latents, least_base), fmap_max=latents, **others),
        NetworkConfig(resolution, fmap_base=least_base, fmap_max=features[4], latent_size=latents, **others),
    )
    for config in configs:
        if all(config.features(r) == number for r, number in features.items()):
            return config
    shown = ", ".join(f"{number} at {r}x{r}" for r, number in features.items())
    raise ConfigError(f"feature maps {shown} follow from no fmap_base and fmap_max")
