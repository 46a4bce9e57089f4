"""Configuration: one frozen class a concern, validated when made."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Self

from progan_service import formats
from progan_service.checks import is_power_of_two, require
from progan_service.errors import BadInputError, ConfigError
from progan_service.model.config import NetworkConfig
from progan_service.training import earlier

FORMAT_VERSION = 1

BY_RESOLUTION = ("batch_sizes", "learning_rates", "tick_kimg")  # settings with a value for each resolution


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. Amounts of training are counted in thousands of real images shown (kimg).

    seed                 of the weights, the order of the images, mirroring and all latents
    stable_kimg          at each resolution before the next one fades in
    fade_kimg            over which a new resolution fades in
    total_kimg           of the whole run; the final resolution runs to the end
    batch_sizes          images a step, by resolution; a resolution left out takes the next lower one's
    learning_rates       of Adam, by resolution, likewise
    learning_rate_ramp_kimg   over which the learning rate rises from 0 at the start of the run
    adam_beta2           beta1 is 0 (paper, appendix A.1)
    ema_halflife_kimg    after which a generator weight counts half in the averaged generator
    gp_weight            lambda of the gradient penalty
    gp_target            gradient norm that costs nothing
    gp_reference         "canvas": the norm with respect to the image upscaled to the final resolution, as the original
                         implementations take it; "native": at the resolution of the stage
    drift_weight         of the squared scores of real images
    mbstd_group_size     images over which the minibatch standard deviation is taken
    mirror               show each real image mirrored half of the time
    precision            of the features: "float32", or "bfloat16" for less time and memory; weights are always float32
    fused_kernels        up- and downscaling inside the convolutions: the same function, less arithmetic
    tick_kimg            between two status lines, image grids and checkpoints, by resolution
    snapshot_ticks       between two snapshots of the averaged generator; the end of the run has one too; 0: none
    metric_images        images of which every tick computes SWD and MS-SSIM; 0: none
    """

    seed: int = 0
    stable_kimg: float = 600
    fade_kimg: float = 600
    total_kimg: float = 12000
    batch_sizes: Mapping[int, int] = field(default_factory=lambda: {4: 16})
    learning_rates: Mapping[int, float] = field(default_factory=lambda: {4: 0.001})
    learning_rate_ramp_kimg: float = 0
    adam_beta2: float = 0.99
    ema_halflife_kimg: float = 10
    gp_weight: float = 10
    gp_target: float = 1
    gp_reference: str = "canvas"
    drift_weight: float = 0.001
    mbstd_group_size: int = 4
    mirror: bool = False
    precision: str = "float32"
    fused_kernels: bool = True
    tick_kimg: Mapping[int, float] = field(
        default_factory=lambda: {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10}
    )
    snapshot_ticks: int = 1
    metric_images: int = 0

    def __post_init__(self) -> None:
        for name in ("stable_kimg", "total_kimg"):
            value = getattr(self, name)
            require(0.001 <= value < math.inf, name, value, "must be 0.001 (one image) or more, and finite")
        for name in ("ema_halflife_kimg", "gp_target"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "must be above 0, and finite")
        for name in ("seed", "fade_kimg", "learning_rate_ramp_kimg", "gp_weight", "drift_weight"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "must be 0 or more, and finite")
        require(self.seed < 2**31, "seed", self.seed, "must be below 2^31")
        require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "must lie between 0 and 1")
        require(
            self.gp_reference in ("canvas", "native"), "gp_reference", self.gp_reference, "must be canvas or native"
        )
        require(self.precision in ("float32", "bfloat16"), "precision", self.precision, "must be float32 or bfloat16")
        require(self.mbstd_group_size >= 1, "mbstd_group_size", self.mbstd_group_size, "must be 1 or more")
        require(self.snapshot_ticks >= 0, "snapshot_ticks", self.snapshot_ticks, "must be 0 or more")
        require(
            self.metric_images == 0 or (self.metric_images >= 16 and self.metric_images % 2 == 0),
            "metric_images",
            self.metric_images,
            "must be 0, or an even number from 16 on",
        )
        for name in BY_RESOLUTION:
            table = getattr(self, name)
            require(4 in table, name, table, "must give a value for resolution 4")
            for resolution, value in table.items():
                require(is_power_of_two(resolution), f"{name} resolution", resolution, "must be a power of two")
                require(0 < value < math.inf, f"{name} at {resolution}", value, "must be above 0, and finite")
        for resolution, kimg in self.tick_kimg.items():
            require(kimg >= 0.001, f"tick_kimg at {resolution}", kimg, "must be 0.001 (one image) or more")
        for resolution, batch in self.batch_sizes.items():
            group = min(self.mbstd_group_size, batch)
            require(
                batch % group == 0,
                f"batch_sizes at {resolution}",
                batch,
                f"must be a multiple of mbstd_group_size {self.mbstd_group_size}, or smaller than it",
            )


@dataclass(frozen=True)
class DatasetConfig:
    """The images that a run is trained on; a run that goes on needs the same ones.

    digest        of the images at 4x4
    label_names   one a label, for a run with labels
    license       text; empty where the dataset has none
    """

    name: str
    image_count: int
    digest: str = ""
    label_names: tuple[str, ...] = ()
    license: str = ""


# What may change when a run goes on: it is still the same run.
MAY_CHANGE = frozenset(
    {
        "training.total_kimg",
        "training.tick_kimg",
        "training.snapshot_ticks",
        "training.metric_images",
        "dataset.license",
    }
)

CONCERNS: dict[str, type] = {"dataset": DatasetConfig, "network": NetworkConfig, "training": TrainingConfig}


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run, as it is written beside the run.

    unknown   keys that a newer release has written, kept as they are; those of a concern under its name
    """

    dataset: DatasetConfig
    network: NetworkConfig
    training: TrainingConfig
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        concerns = {name: {**self.unknown.get(name, {}), **asdict(getattr(self, name))} for name in CONCERNS}
        return json.dumps({**self.unknown, formats.VERSION_KEY: FORMAT_VERSION, **concerns}, indent=2) + "\n"

    def settings(self) -> dict[str, Any]:
        """Return every value by its name, such as "training.seed"."""
        concerns = {concern: asdict(getattr(self, concern)) for concern in CONCERNS}
        return {f"{concern}.{name}": value for concern, values in concerns.items() for name, value in values.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of all that must not change when the run goes on.

        Settings at their default are left out, so that a setting of a later release does not make this another run.
        A default must therefore stay what it is.
        """
        return _digest(self._fixed_settings(beside=frozenset()))

    @property
    def digests(self) -> tuple[str, str]:
        """The digest, and the one that the first commits wrote, from all settings that they had."""
        return self.digest, _digest(earlier.in_first_words(self._fixed_settings(beside=earlier.SETTINGS)))

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return the configuration that a `config.json` holds. Raises ConfigError for a damaged or newer one."""
        try:
            return cls._from_document(formats.parse(content, FORMAT_VERSION))
        except formats.NewerFormatError as error:
            raise ConfigError(str(error)) from error
        except BadInputError as error:
            raise ConfigError(f"not a run configuration: {error}") from error

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> Self:
        values, unknown = {}, formats.unknown_values(cls, document)
        for name, kind in CONCERNS.items():
            section = earlier.in_present_words(document.get(name))
            values[name] = kind(**formats.field_values(kind, section, name))
            if added := formats.unknown_values(kind, section):
                unknown[name] = added
        return cls(**values, unknown=unknown)

    def _fixed_settings(self, beside: Collection[str]) -> dict[str, Any]:
        """Return the settings that must not change and are not at their default, and those of `beside`."""
        return {
            name: value
            for name, value in self.settings().items()
            if name not in MAY_CHANGE and (name in beside or value != _DEFAULTS[name])
        }


def _default(setting: Field[Any]) -> Any:
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


_DEFAULTS = {f"{name}.{setting.name}": _default(setting) for name, kind in CONCERNS.items() for setting in fields(kind)}
"""By the name of the setting; MISSING for a setting without one."""


def _digest(settings: Mapping[str, Any]) -> str:
    plain = {name: _plain(value) for name, value in settings.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return numbers in one form: 12.0 and 12 are the same setting."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
