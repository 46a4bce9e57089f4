"""TODO"""

from dataclasses import dataclass, field
from pathlib import Path

from progan_service.checks import require
from progan_service.store.bundled import BUNDLED_STORE


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
        require(self.max_batch_size >= 1, "max_batch_size", self.max_batch_size, "must be 1 or more")
        if not self.allowed_batch_sizes:
            powers = [2**k for k in range(self.max_batch_size.bit_length()) if 2**k < self.max_batch_size]
            object.__setattr__(self, "allowed_batch_sizes", (*powers, self.max_batch_size))
        sizes = self.allowed_batch_sizes
        require(
            sizes[0] >= 1 and list(sizes) == sorted(set(sizes)) and sizes[-1] == self.max_batch_size,
            "allowed_batch_sizes",
            sizes,
            f"must rise and end with max_batch_size {self.max_batch_size}",
        )
        require(
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
        require(self.log_format in formats, "log_format", self.log_format, "must be auto, text or json")
        require(self.log_level in levels, "log_level", self.log_level, "must be debug, info, warning or error")


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
            require("://" in self.store, "store", self.store, rule)
        else:
            rule = f"must be left out, for store {str(self.store)!r} is a directory and not copied"
            require(self.cache is None, "cache", str(self.cache), rule)
        for name in ("port", "http_port"):
            require(0 <= getattr(self, name) <= 65535, name, getattr(self, name), "must lie between 0 and 65535")
        require(self.port == 0 or self.port != self.http_port, "http_port", self.http_port, "must differ from port")
        require(self.max_images >= 1, "max_images", self.max_images, "must be 1 or more")
        require(
            self.max_message_bytes >= 4 * 2**20, "max_message_bytes", self.max_message_bytes, "must be at least 4 MiB"
        )
        for name in ("lame_duck_s", "drain_s"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        for name in ("poll_s", "hang_s"):
            require(getattr(self, name) > 0, name, getattr(self, name), "must be above 0")
        require(self.replicas >= 1, "replicas", self.replicas, "must be 1 or more")
        require(
            self.precision in ("float32", "bfloat16", "auto"),
            "precision",
            self.precision,
            "must be float32, bfloat16 or auto",
        )
        for name, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
            value = getattr(self, name)
            require(not value or getattr(self, needed) is not None, name, str(value), f"needs {needed}, too")
