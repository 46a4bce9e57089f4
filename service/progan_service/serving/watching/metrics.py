"""The server's metrics, in base units. No label value is ever a name that a caller made up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of time series

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One set of metrics in a registry of its own, so that two servers in a process do not mix.

    Any thread may change a metric: each has a lock of its own. The HTTP port's threads read them all. They also call
    what `set_function` was given, without a lock: such a function may only read, and must bear changes meanwhile.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "progan_requests_total",
            "Calls that have ended, by name of the status code.",
            ["method", "model", "code"],
            registry=registry,
        )
        self.request_duration = Histogram(
            "progan_request_duration_seconds",
            "Duration of a call, from its arrival to its last message.",
            ["method", "model"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.images = Counter("progan_images_total", "Images made.", ["model", "version"], registry=registry)
        self.queue_rows = Gauge("progan_queue_rows", "Images that wait for a device.", ["priority"], registry=registry)
        self.queue_duration = Histogram(
            "progan_queue_duration_seconds",
            "Queue time of a call's images in a batch, observed once for each call and batch.",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "progan_batch_rows", "Images in a batch, without padding.", buckets=_ROWS, registry=registry
        )
        self.batch_padding_rows = Counter(
            "progan_batch_padding_rows_total",
            "Rows of padding, computed to fill batches up to an allowed size.",
            registry=registry,
        )
        self.inference_duration = Histogram(
            "progan_inference_duration_seconds",
            "Computing time of a batch on its device.",
            ["model", "version", "batch_size"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.encode_queue_rows = Gauge(
            "progan_encode_queue_rows", "Images that wait for an encoder.", ["priority"], registry=registry
        )
        self.encode_duration = Histogram(
            "progan_encode_duration_seconds",
            "Encoding time of the images of a reply, queue time included.",
            ["format"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.out_of_memory = Counter(
            "progan_out_of_memory_total",
            "Batches that did not fit into the device's memory and were run again in parts.",
            registry=registry,
        )
        self.rows_dropped = Counter(
            "progan_rows_dropped_total",
            "Images that were asked for and not made or not encoded: cancelled, expired or rejected.",
            ["reason"],
            registry=registry,
        )
        self.model_load_duration = Histogram(
            "progan_model_load_duration_seconds",
            "Time to verify, load and warm up a version.",
            buckets=(0.5, 1, 2.5, 5, 10, 25, 50, 100, 250),
            registry=registry,
        )
        self.model_load_failures = Counter(
            "progan_model_load_failures_total",
            "Versions that could not be loaded.",
            ["model", "reason"],
            registry=registry,
        )
        self.store_failures = Counter(
            "progan_store_failures_total", "Times that the model store could not be read.", registry=registry
        )
        self.model_info = Gauge(
            "progan_model_info",
            "1 for each loaded version.",
            ["model", "version", "digest", "resolution", "precision"],
            registry=registry,
        )
        self.model_ready = Gauge("progan_model_ready", "1 while the model answers calls.", ["model"], registry=registry)
