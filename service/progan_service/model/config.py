"""TODO"""

from dataclasses import dataclass

from progan_service.checks import is_power_of_two, require


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of both networks (paper, appendix A). The defaults are the paper's full-size networks.

    resolution    side of the final images in pixels, a power of two from 4 to 1024
    channels      1 (grey) or 3 (RGB)
    label_size    length of the one-hot label vectors, 0 without labels
    fmap_base     feature maps double towards low resolutions from fmap_base / 2^s ...
    fmap_max      ... up to this many
    d_pool        "pre_act": the discriminator halves features before bias and activation, as the original with fused
                  layers does; "post_act": after them, as the original without
    """

    resolution: int
    channels: int = 3
    label_size: int = 0
    fmap_base: int = 8192
    fmap_max: int = 512
    d_pool: str = "pre_act"

    def __post_init__(self) -> None:
        require(
            4 <= self.resolution <= 1024 and is_power_of_two(self.resolution),
            "resolution",
            self.resolution,
            "must be a power of two from 4 to 1024",
        )
        require(self.channels in (1, 3), "channels", self.channels, "must be 1 or 3")
        require(self.label_size >= 0, "label_size", self.label_size, "must be 0 or more")
        require(self.fmap_max >= 1, "fmap_max", self.fmap_max, "must be 1 or more")
        require(self.d_pool in ("pre_act", "post_act"), "d_pool", self.d_pool, "must be pre_act or post_act")
        require(
            self.features(self.resolution) >= 1,
            "fmap_base",
            self.fmap_base,
            f"must be at least {self.resolution // 2} for {self.resolution}x{self.resolution} images",
        )

    def features(self, resolution: int) -> int:
        """Feature maps of the block at `resolution`: min(fmap_base / 2^s, fmap_max) with 2^s = resolution / 2."""
        return min(self.fmap_base * 2 // resolution, self.fmap_max)

    @property
    def latent_size(self) -> int:
        return min(self.fmap_base, self.fmap_max)
