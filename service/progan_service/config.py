"""Configuration: one frozen class a concern, validated when made."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from progan_service.errors import BadInputError

BUNDLED_STORE = Path(__file__).parent / "bundled"


class ConfigError(BadInputError):
    """A configuration value breaks its rule; the message names the field, the value and the rule.

    field, rule   empty where it is not about one field
    """

    def __init__(self, message: str, field: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.rule = rule


def _require(holds: bool, field_name: str, value: object, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{field_name} is {value!r}: {rule}", field_name, rule)


def is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def resolutions_up_to(resolution: int) -> list[int]:
    """4, 8, ... up to `resolution`."""
    return [2**r for r in range(2, resolution.bit_length())]


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
        _require(
            4 <= self.resolution <= 1024 and is_power_of_two(self.resolution),
            "resolution",
            self.resolution,
            "must be a power of two from 4 to 1024",
        )
        _require(self.channels in (1, 3), "channels", self.channels, "must be 1 or 3")
        _require(self.label_size >= 0, "label_size", self.label_size, "must be 0 or more")
        _require(self.fmap_max >= 1, "fmap_max", self.fmap_max, "must be 1 or more")
        _require(self.d_pool in ("pre_act", "post_act"), "d_pool", self.d_pool, "must be pre_act or post_act")
        _require(
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
    precision            of the features: "fp32", or "bf16" for less time and memory; weights are always fp32
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
    precision: str = "fp32"
    fused_kernels: bool = True
    tick_kimg: Mapping[int, float] = field(
        default_factory=lambda: {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10}
    )
    snapshot_ticks: int = 1
    metric_images: int = 0

    def __post_init__(self) -> None:
        for name in ("stable_kimg", "total_kimg"):
            value = getattr(self, name)
            _require(0.001 <= value < math.inf, name, value, "must be 0.001 (one image) or more, and finite")
        for name in ("ema_halflife_kimg", "gp_target"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "must be above 0, and finite")
        for name in ("seed", "fade_kimg", "learning_rate_ramp_kimg", "gp_weight", "drift_weight"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "must be 0 or more, and finite")
        _require(self.seed < 2**31, "seed", self.seed, "must be below 2^31")
        _require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "must lie between 0 and 1")
        _require(
            self.gp_reference in ("canvas", "native"), "gp_reference", self.gp_reference, "must be canvas or native"
        )
        _require(self.precision in ("fp32", "bf16"), "precision", self.precision, "must be fp32 or bf16")
        _require(self.mbstd_group_size >= 1, "mbstd_group_size", self.mbstd_group_size, "must be 1 or more")
        _require(self.snapshot_ticks >= 0, "snapshot_ticks", self.snapshot_ticks, "must be 0 or more")
        _require(
            self.metric_images == 0 or (self.metric_images >= 16 and self.metric_images % 2 == 0),
            "metric_images",
            self.metric_images,
            "must be 0, or an even number from 16 on",
        )
        for name in BY_RESOLUTION:
            table = getattr(self, name)
            _require(4 in table, name, table, "must give a value for resolution 4")
            for resolution, value in table.items():
                _require(is_power_of_two(resolution), f"{name} resolution", resolution, "must be a power of two")
                _require(0 < value < math.inf, f"{name} at {resolution}", value, "must be above 0, and finite")
        for resolution, kimg in self.tick_kimg.items():
            _require(kimg >= 0.001, f"tick_kimg at {resolution}", kimg, "must be 0.001 (one image) or more")
        for resolution, batch in self.batch_sizes.items():
            group = min(self.mbstd_group_size, batch)
            _require(
                batch % group == 0,
                f"batch_sizes at {resolution}",
                batch,
                f"must be a multiple of mbstd_group_size {self.mbstd_group_size}, or smaller than it",
            )


@dataclass(frozen=True)
class DatasetConfig:
    """Which images a run is trained on, so that a resume meets the same ones.

    digest        of the images at 4x4
    label_names   one a label, for a run with labels
    """

    name: str
    image_count: int
    digest: str = ""
    label_names: tuple[str, ...] = ()
    licence: str = ""


# What may change when a run goes on: it is still the same run.
MAY_CHANGE = frozenset(
    {
        "training.total_kimg",
        "training.tick_kimg",
        "training.snapshot_ticks",
        "training.metric_images",
        "dataset.licence",
    }
)


@dataclass(frozen=True)
class RunConfig:
    """A run as it is written beside itself: data, network and training."""

    dataset: DatasetConfig
    network: NetworkConfig
    training: TrainingConfig

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def settings(self) -> dict[str, Any]:
        """Every value by its name, such as "training.seed"."""
        return {
            f"{concern}.{name}": value for concern, values in asdict(self).items() for name, value in values.items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all that must not change when the run goes on."""
        fixed = {name: _plain(value) for name, value in self.settings().items() if name not in MAY_CHANGE}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ConfigError for anything `to_json` does not write."""
        try:
            document = json.loads(text)
            return cls(
                DatasetConfig(**document["dataset"] | {"label_names": tuple(document["dataset"]["label_names"])}),
                NetworkConfig(**document["network"]),
                TrainingConfig(**training_values(document["training"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"not a run configuration: {error}") from error


def training_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """Values of TrainingConfig as JSON holds them (resolutions are strings there), names checked."""
    known = {f.name for f in fields(TrainingConfig)}
    for name in document:
        _require(name in known, "setting", name, f"must be one of {', '.join(sorted(known))}")
    values = dict(document)
    for name in BY_RESOLUTION:
        if name in values:
            values[name] = {int(resolution): value for resolution, value in values[name].items()}
    return values


def _plain(value: Any) -> Any:
    """12.0 and 12 are the same setting."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class BatchingConfig:
    """How rows (one row: one image) become batches.

    max_batch_size         rows of the largest batch
    allowed_batch_sizes    sizes that batches are padded up to, rising, the last one max_batch_size
    max_queued_rows        rows that may wait, for a device or an encoder; a request that does not fit is refused whole
    """

    max_batch_size: int = 16
    allowed_batch_sizes: tuple[int, ...] = ()
    max_queued_rows: int = 1024

    def __post_init__(self) -> None:
        _require(self.max_batch_size >= 1, "max_batch_size", self.max_batch_size, "must be 1 or more")
        if not self.allowed_batch_sizes:
            powers = [2**k for k in range(self.max_batch_size.bit_length()) if 2**k < self.max_batch_size]
            object.__setattr__(self, "allowed_batch_sizes", (*powers, self.max_batch_size))
        sizes = self.allowed_batch_sizes
        _require(
            sizes[0] >= 1 and list(sizes) == sorted(set(sizes)) and sizes[-1] == self.max_batch_size,
            "allowed_batch_sizes",
            sizes,
            f"must rise and end with max_batch_size {self.max_batch_size}",
        )
        _require(
            self.max_queued_rows >= self.max_batch_size,
            "max_queued_rows",
            self.max_queued_rows,
            f"must be at least max_batch_size {self.max_batch_size}",
        )


@dataclass(frozen=True)
class LogConfig:
    """What the server tells on its standard output.

    log_format     "text" for people; "json": one object a line; "auto": text on a terminal, JSON elsewhere
    log_level      the least important that is told: "debug", "info", "warning" or "error"
    log_requests   a line for each call, of level info
    """

    log_format: str = "auto"
    log_level: str = "info"
    log_requests: bool = True

    def __post_init__(self) -> None:
        formats, levels = ("auto", "text", "json"), ("debug", "info", "warning", "error")
        _require(self.log_format in formats, "log_format", self.log_format, "must be auto, text or json")
        _require(self.log_level in levels, "log_level", self.log_level, "must be debug, info, warning or error")


@dataclass(frozen=True)
class ServerConfig:
    """Where the server listens, what it serves, how it ends.

    store                the model store; each <store>/<model>/<version>/ is a SavedModel with progan.json; a text is a
                         URL that TensorFlow reads
    cache                where a store behind a URL is copied to; None: a temporary directory, removed at the end
    default_model        the model of requests that name none; empty: the only one
    host, port, http_port   gRPC and HTTP (/metrics /livez /readyz) addresses; port 0 takes a free one
    max_images           images a unary call may ask for
    max_message_bytes    size of one request or reply
    lame_duck_s          serving on after SIGTERM while readiness already says no
    drain_s              how long what is in flight may take after that
    poll_s               time between two looks at the store
    replicas             batches that a server without GPUs computes at a time; with GPUs it is one for each
    precision            of the arithmetic: "float32"; "bfloat16"; "auto": bfloat16 for versions whose images stay as
                         good as the same by it, where it is faster
    hang_s               a batch that takes longer takes away its model's readiness until it ends
    tls_cert, tls_key    PEM files: the server's certificate and those that vouch for it, and its key; None: plain text
    client_ca            PEM file of who signs clients' certificates; without one of theirs nobody connects (mTLS)
    tokens               file of lines NAME TOKEN, one of which a call has to bring; None: none is asked for
    """

    store: Path | str = BUNDLED_STORE
    default_model: str = ""
    host: str = "127.0.0.1"
    port: int = 8500
    http_port: int = 8501
    max_images: int = 256
    max_message_bytes: int = 64 * 2**20
    lame_duck_s: float = 5.0
    drain_s: float = 20.0
    poll_s: float = 5.0
    cache: Path | None = None
    replicas: int = 1
    precision: str = "float32"
    hang_s: float = 60.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    tokens: Path | None = None
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    logs: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        if isinstance(self.store, str):
            rule = "must be a directory, or a URL such as gs://bucket/models"
            _require("://" in self.store, "store", self.store, rule)
        else:
            rule = f"must be left out, for store {str(self.store)!r} is a directory and not copied"
            _require(self.cache is None, "cache", str(self.cache), rule)
        for name in ("port", "http_port"):
            _require(0 <= getattr(self, name) <= 65535, name, getattr(self, name), "must lie between 0 and 65535")
        _require(self.port == 0 or self.port != self.http_port, "http_port", self.http_port, "must differ from port")
        _require(self.max_images >= 1, "max_images", self.max_images, "must be 1 or more")
        _require(
            self.max_message_bytes >= 4 * 2**20, "max_message_bytes", self.max_message_bytes, "must be at least 4 MiB"
        )
        for name in ("lame_duck_s", "drain_s"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        for name in ("poll_s", "hang_s"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "must be above 0")
        _require(self.replicas >= 1, "replicas", self.replicas, "must be 1 or more")
        _require(
            self.precision in ("float32", "bfloat16", "auto"),
            "precision",
            self.precision,
            "must be float32, bfloat16 or auto",
        )
        for name, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
            value = getattr(self, name)
            _require(not value or getattr(self, needed) is not None, name, str(value), f"needs {needed}, too")
