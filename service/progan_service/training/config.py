"""The settings of a training run, each declared once, and the configuration that is written beside a run."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Literal, Self

from progan_service import formats
from progan_service.checks import Rule, above, at_least, is_power_of_two, require
from progan_service.errors import BadInputError, ConfigError
from progan_service.label_kind import LabelKind
from progan_service.model.config import NetworkConfig
from progan_service.settings.field import Settings, setting
from progan_service.training import earlier

FORMAT_VERSION = 1

_RESOLUTION = Rule("must be a power of two from 4 on", lambda r: r >= 4 and is_power_of_two(r))
_ONE_IMAGE = Rule("must be 0.001 (one image) or more", lambda kimg: bool(kimg >= 0.001))
_FEW_IMAGES = Rule("must be 0, or an even number from 16 on", lambda n: n == 0 or (n >= 16 and n % 2 == 0))


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """One training run. Amounts of training are thousands of real images shown (kimg).

    A value by resolution holds for higher resolutions that have none. Adam's beta1 is 0 (paper, appendix A.1).

    gp_reference   "canvas": the norm with respect to the image upscaled to the final resolution, as in the original
                   implementations; "native": at the resolution of the stage
    """

    mbstd_group_size: int = setting(
        4, "images per group of the minibatch standard deviation", at_least(1), group="network"
    )

    total_kimg: float = setting(12000, "length of the run; may change when a run goes on", _ONE_IMAGE, group="schedule")
    initial_resolution: int = setting(4, "resolution at which training begins", _RESOLUTION, metavar="R")
    stable_kimg: float = setting(600, "length of each resolution before the next one fades in", _ONE_IMAGE)
    fade_kimg: float = setting(600, "length of the fade-in of each resolution", at_least(0))
    batch_sizes: Mapping[int, int] = setting({4: 16}, "images per step, by resolution", above(0))

    learning_rates: Mapping[int, float] = setting(
        {4: 0.001}, "learning rates of Adam, by resolution", above(0), group="optimisation"
    )
    learning_rate_ramp_kimg: float = setting(
        0, "length of the rise of the learning rate from 0 at the start", at_least(0)
    )
    learning_rate_fall_kimg: float = setting(
        0, "length of the fall of the learning rate to 0 at the end of the run", at_least(0)
    )
    adam_beta2: float = setting(
        0.99, "beta2 of Adam; beta1 is 0", Rule("must lie between 0 and 1", lambda beta: 0 < beta < 1)
    )
    ema_halflife_kimg: float = setting(10, "half-life of weights in the averaged generator", above(0))
    ema_rampup: float = setting(
        0, "highest half-life as a share of the images shown so far; 0: the same half-life from the start", at_least(0)
    )

    gp_weight: float = setting(10, "weight of the gradient penalty", at_least(0), group="penalty")
    gp_target: float = setting(1, "gradient norm without penalty", above(0))
    gp_reference: Literal["canvas", "native"] = setting(
        "canvas", "norm at the final resolution (canvas) or at that of the stage (native)"
    )
    drift_weight: float = setting(0.001, "weight of the squared scores of real images", at_least(0))

    mirror: bool = setting(False, "show each real image mirrored half of the time", group="data")
    seed: int = setting(
        0,
        "seed of weights, image order, mirroring and latents",
        at_least(0),
        Rule("must be below 2^31", lambda seed: bool(seed < 2**31)),
    )

    precision: Literal["float32", "bfloat16"] = setting(
        "float32",
        "precision of features; bfloat16 takes less time and memory, weights stay float32",
        group="computing",
    )
    fused_kernels: bool = setting(True, "scale within the convolutions: same function, less arithmetic")

    tick_kimg: Mapping[int, float] = setting(
        {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10},
        "interval of status lines, image grids and checkpoints, by resolution",
        _ONE_IMAGE,
        group="output",
    )
    snapshot_ticks: int = setting(
        1, "interval in ticks of snapshots of the averaged generator, also made at the end; 0: none", at_least(0)
    )
    metric_images: int = setting(0, "images per tick for SWD and MS-SSIM; 0: none", _FEW_IMAGES)

    def __post_init__(self) -> None:
        super().__post_init__()
        for resolution, batch in self.batch_sizes.items():
            group = min(self.mbstd_group_size, batch)
            require(
                batch % group == 0,
                f"batch_sizes at {resolution}",
                batch,
                f"must be a multiple of `mbstd_group_size` {self.mbstd_group_size}, or smaller than it",
            )


@dataclass(frozen=True)
class DatasetConfig:
    """The images that a run is trained on; a run that goes on needs the same ones.

    digest        of the file of 4x4 images
    label_names   one a label, for a run with labels
    label_kind    what the labels are
    license       text; empty where the dataset has none
    parts         digests of all that the run reads: of the images "4x4", "8x8", ..., and of the "labels" for a run with
                  labels; none if an earlier commit began the run
    """

    name: str
    image_count: int
    digest: str = ""
    label_names: tuple[str, ...] = ()
    license: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    label_kind: LabelKind = "classes"


@dataclass(frozen=True)
class SetupConfig:
    """Where a run finds its data and how it is computed. All of it may change when the run goes on.

    data            absolute path of the dataset; empty if an earlier commit began the run
    auto_batch      whether a batch that does not fit into memory is computed in parts
    deterministic   whether the weights are the same, bit for bit, each time
    """

    data: str = ""
    auto_batch: bool = False
    deterministic: bool = False


@dataclass(frozen=True)
class InitConfig:
    """The weights that a run begins with, where these are not random.

    source         the run, version or file that was given with --init
    digest         of the arrays
    resolution     that is trained already
    images_shown   real images, until then; 0 if that is not known
    """

    source: str = ""
    digest: str = ""
    resolution: int = 4
    images_shown: int = 0


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
_SECTIONS = {**CONCERNS, "setup": SetupConfig, "init": InitConfig}
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run, as it is written beside the run.

    unknown   keys that a newer release has written, kept as they are; those of a section under its name

    The file has a checksum of all that, because another value in it could make the run another one, unnoticed.
    """

    dataset: DatasetConfig
    network: NetworkConfig
    training: TrainingConfig
    setup: SetupConfig = SetupConfig()
    init: InitConfig = InitConfig()
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        initial, final = self.training.initial_resolution, self.network.resolution
        require(initial <= final, "initial_resolution", initial, f"must be at most the final resolution {final}")

    def to_json(self) -> str:
        sections = {name: {**self.unknown.get(name, {}), **asdict(getattr(self, name))} for name in _SECTIONS}
        document = {**self.unknown, formats.VERSION_KEY: FORMAT_VERSION, **sections}
        return json.dumps({_CHECKSUM: _checksum(document), **document}, indent=2) + "\n"

    def settings(self) -> dict[str, Any]:
        """Return every value that makes the run by its name, such as "training.seed"."""
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
    def digests(self) -> tuple[str, ...]:
        """The digest, and those that earlier commits wrote for the same settings."""
        first = earlier.without_parts(self._fixed_settings(beside=earlier.SETTINGS))
        second = earlier.without_parts(self._fixed_settings(beside=frozenset()))
        return tuple(dict.fromkeys((self.digest, _digest(earlier.in_first_words(first)), _digest(second))))

    @classmethod
    def from_json(cls, content: str | bytes) -> Self:
        """Return the configuration that a `config.json` holds. Raises ConfigError for a damaged or newer one."""
        try:
            document = formats.parse(content, FORMAT_VERSION)
            if document.pop(_CHECKSUM, None) not in (None, _checksum(document)):
                raise formats.FormatError(
                    f"its content does not fit its {_CHECKSUM}: it is damaged, or was edited; take it from a copy, or "
                    f"remove the line {_CHECKSUM} to use it as it is"
                )
            return cls._from_document(document)
        except formats.NewerFormatError as error:
            raise ConfigError(str(error)) from error
        except BadInputError as error:
            raise ConfigError(f"not a run configuration: {error}") from error

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> Self:
        values, unknown = {}, formats.unknown_values(cls, document)
        document = {"setup": {}, "init": {}, **document}
        for name, kind in _SECTIONS.items():
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


def _checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the values of a document, however it is written."""
    as_read = json.loads(json.dumps(document))  # keys are texts there
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


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
