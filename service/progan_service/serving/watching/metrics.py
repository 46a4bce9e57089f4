"""The server's metrics, in base units. No label value is ever a name that a caller made up.

Counters exist at 0 with the labels that can be known beforehand: else the first failure would be no increase.
A thousand servers must not make millions of series, so there are two exceptions: of methods that make no images, only
the codes of success and of the server's faults exist beforehand; and of the durations, only those of images that were
made.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from progan_service.serving.config import ServerConfig
from progan_service.serving.watching.callers import CallerMetrics
from progan_service.serving.watching.refusals import Refusals
from progan_service.serving.watching.statistics import Statistics, Total

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of time series

ProcessState = Literal["not_ready", "ready", "lame_duck", "draining"]

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CALL_S = (*_LATENCY_S, 60, 300, 900, 3600)  # streams may run for an hour
_LOAD_S = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_LOAD_FAILURES = ("invalid", "unreadable", "rollout", "memory", "error")  # the values of `reason`
_DROPS = ("cancelled", "expired", "rejected")  # likewise
_HANGS = ("look", "load", "reload", "batch")  # the values of `what`
_DECIBELS = (10, 15, 20, 25, 30, 35, 40, 45, 50, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# How calls may end: any call, one for images whose model is known, and one that failed before its model was.
_CODES = ("OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL")
_CODES_OF_A_MODEL = (
    *_CODES,
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
)
_CODES_OF_IMAGES = (*_CODES_OF_A_MODEL, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")


class Metrics:
    """One set of metrics in a registry of its own, so that two servers in a process do not mix.

    statistics   of the calls by version; used in the event loop only
    refusals     those that are logged together; used in the event loop only
    callers      calls and images by name of the token

    Any thread may change a metric: each has a lock of its own. The HTTP port's thread reads them all. It also calls
    what `set_function` was given, without a lock: such a function may only read, and must bear changes meanwhile.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.statistics = Statistics()
        self.refusals = Refusals()
        self.callers = CallerMetrics(self.registry)
        self._models: set[str] = set()
        self._image_methods: set[str] = set()
        ProcessCollector(registry=self.registry)
        self._of_process()
        self._of_connections()
        self._of_calls()
        self._of_inversions()
        self._of_rows()
        self._of_batches()
        self._of_models()
        self._of_devices()

    def describe(self, config: ServerConfig, max_http_connections: int) -> None:
        """Say what runs, and its limits."""
        self._build.labels(version("progan-service"), config.revision, _tensorflow_version(), config.precision).set(1)
        self._max_queued_rows.set(config.batching.max_queued_rows)
        self._max_unsent_bytes.set(config.max_unsent_bytes)
        self._max_connections.labels("grpc").set(config.max_connections)
        self._max_connections.labels("http").set(max_http_connections)

    def follow_certificate(self, expires_at: Callable[[], float]) -> None:
        """Report when the certificate expires. Without TLS there is no such series."""
        text = "When the certificate that the server uses expires, in seconds since 1970."
        self._gauge("progan_certificate_expiry_timestamp_seconds", text).set_function(expires_at)

    def set_state(self, state: ProcessState) -> None:
        self._ready.set(state == "ready")
        for one in get_args(ProcessState):
            self._state.labels(one).set(one == state)

    def know_method(self, method: str, *, makes_images: bool) -> None:
        """Begin to count the calls of a method, from 0."""
        self.in_flight.labels(method)
        for code in _CODES_OF_IMAGES if makes_images else _CODES:
            self.requests.labels(method, "", code)
        if makes_images:
            self._image_methods.add(method)
            for model in self._models:
                self._know_calls(method, model)

    def know_model(self, model: str) -> None:
        """Begin to count what happens to a model, from 0."""
        if model in self._models:
            return
        self._models.add(model)
        self.model_hanging.labels(model)
        self.out_of_memory.labels(model)
        self.rows_wasted.labels(model)
        for reason in _DROPS:
            self.rows_dropped.labels(model, reason)
        for reason in _LOAD_FAILURES:
            self.model_load_failures.labels(model, reason)
        for method in self._image_methods:
            self._know_calls(method, model)

    def _know_calls(self, method: str, model: str) -> None:
        self.request_duration.labels(method, model, "OK")
        for code in _CODES_OF_A_MODEL:
            self.requests.labels(method, model, code)

    def batches_of(self, model: str, version: int) -> dict[int, Total]:
        """Return the batches of a version by their size, padding included."""
        batches: dict[int, Total] = {}
        for sample in (sample for metric in self.inference_duration.collect() for sample in metric.samples):
            labels = sample.labels
            if (labels["model"], labels["version"]) == (model, str(version)):
                batch = batches.setdefault(int(labels["batch_size"]), Total())
                if sample.name.endswith("_count"):
                    batch.count = int(sample.value)
                elif sample.name.endswith("_sum"):
                    batch.seconds = sample.value
        return dict(sorted(batches.items()))

    def _of_process(self) -> None:
        self._build = self._gauge(
            "progan_build_info", "1; the labels say what runs.", "version", "revision", "tensorflow", "precision"
        )
        self._ready = self._gauge("progan_ready", "1 while the server answers calls: at least one model is ready.")
        self._state = self._gauge("progan_state", "1 for the state that the server is in.", "state")
        self.set_state("not_ready")
        self.reloaded_at = self._gauge(
            "progan_reload_success_timestamp_seconds",
            "When certificates or tokens were last read without an error, in seconds since 1970.",
            "what",
        )

    def _of_connections(self) -> None:
        self.connections = self._gauge("progan_connections", "Open connections, by port: grpc or http.", "port")
        self.connections.labels("grpc")
        self._max_connections = self._gauge("progan_max_connections", "Limit of the open connections.", "port")
        self.connections_closed = self._counter(
            "progan_connections_closed_total",
            "gRPC connections closed to make room for others, or because their address had too many: room or address.",
            "reason",
        )
        for reason in ("room", "address"):
            self.connections_closed.labels(reason)

    def _of_calls(self) -> None:
        self.requests = self._counter(
            "progan_requests_total", "Calls that have ended, by name of the status code.", "method", "model", "code"
        )
        self.requests_unread = self._counter(
            "progan_requests_unread_total",
            "Calls refused for lack of room before their request was read. How many images they asked for is unknown.",
        )
        self.in_flight = self._gauge("progan_requests_in_flight", "Calls that have come and not ended.", "method")
        self.request_duration = self._histogram(
            "progan_request_duration_seconds",
            "Duration of a call, from its arrival to its last message, by name of the status code.",
            "method",
            "model",
            "code",
            buckets=_CALL_S,
        )
        self.first_image = self._histogram(
            "progan_first_image_seconds",
            "Time from the arrival of a call until its first images are ready to be sent.",
            "method",
            "model",
        )
        self.unsent_bytes = self._gauge(
            "progan_unsent_bytes", "Bytes of images that are being made or wait for their callers to take them."
        )
        self._max_unsent_bytes = self._gauge("progan_max_unsent_bytes", "Limit of these bytes: --max-unsent-bytes.")
        self.stalled_readers = self._counter(
            "progan_stalled_readers_total", "Calls that were ended because their caller did not take its images."
        )

    def _of_inversions(self) -> None:
        self.inversions = self._counter(
            "progan_inversions_total",
            "Pictures whose latents were looked for, by how it ended: enough, budget, no_gain, deadline or cancelled.",
            "outcome",
        )
        for outcome in ("enough", "budget", "no_gain", "deadline", "cancelled"):
            self.inversions.labels(outcome)
        self.inversion_evaluations = self._counter(
            "progan_inversion_evaluations_total", "Gradients computed to find the latents of pictures."
        )
        self.inversion_psnr = self._histogram(
            "progan_inversion_psnr_decibels", "PSNR of the images that were found for pictures.", buckets=_DECIBELS
        )

    def _of_rows(self) -> None:
        self.images = self._counter("progan_images_total", "Images made.", "model", "version")
        self.rows_dropped = self._counter(
            "progan_rows_dropped_total",
            "Images that were asked for and not made or not encoded: cancelled, expired or rejected.",
            "model",
            "reason",
        )
        self.rows_wasted = self._counter(
            "progan_rows_wasted_total", "Images that were computed and did not reach their caller.", "model"
        )

    def _of_batches(self) -> None:
        self.queue_rows = self._gauge("progan_queue_rows", "Images that wait for a device.", "model", "priority")
        self._max_queued_rows = self._gauge(
            "progan_max_queued_rows", "Limit of the images of a loaded version that wait: --max-queued-rows."
        )
        self.queue_duration = self._histogram(
            "progan_queue_duration_seconds",
            "Queue time of a call's images in a batch, observed once for each call and batch.",
            "model",
            "priority",
        )
        self.batch_rows = self._histogram("progan_batch_rows", "Images in a batch, without padding.", buckets=_ROWS)
        self.max_batch_rows = self._gauge(
            "progan_max_batch_rows", "The largest batch in use; 0 if not loaded.", "model"
        )
        self.batch_padding_rows = self._counter(
            "progan_batch_padding_rows_total", "Rows of padding, computed to fill batches up to an allowed size."
        )
        self.inference_duration = self._histogram(
            "progan_inference_duration_seconds",
            "Computing time of a batch on its device.",
            "model",
            "version",
            "batch_size",
        )
        self.encode_queue_rows = self._gauge("progan_encode_queue_rows", "Images that wait for an encoder.", "priority")
        self.encode_duration = self._histogram(
            "progan_encode_duration_seconds", "Encoding time of the images of a reply, queue time included.", "format"
        )

    def _of_models(self) -> None:
        self.model_info = self._gauge(
            "progan_model_info",
            "1 for each loaded version.",
            "model",
            "version",
            "digest",
            "resolution",
            "precision",
        )
        self.model_ready = self._gauge("progan_model_ready", "1 while the model answers calls.", "model")
        self.model_hanging = self._gauge(
            "progan_model_hanging", "1 while a batch of the model runs for longer than --hang-s.", "model"
        )
        self.capacity = self._gauge(
            "progan_capacity_images_per_second",
            "Images/s that the devices can compute of a model alone: measured in the warm-up, corrected from the "
            "largest batches since; 0 if it is not loaded.",
            "model",
        )
        self.model_memory = self._gauge(
            "progan_model_memory_bytes",
            "Memory that a loaded version takes on the devices, its largest batch included; on CPUs in the process.",
            "model",
            "version",
        )
        self.model_load_duration = self._histogram(
            "progan_model_load_duration_seconds", "Time to verify, load and warm up a version.", buckets=_LOAD_S
        )
        self.model_load_failures = self._counter(
            "progan_model_load_failures_total", "Versions that could not be loaded.", "model", "reason"
        )
        self.store_failures = self._counter(
            "progan_store_failures_total", "Times that the model store could not be read."
        )

    def _of_devices(self) -> None:
        self.out_of_memory = self._counter(
            "progan_out_of_memory_total",
            "Batches that did not fit into the device's memory and were run again in parts.",
            "model",
        )
        self.hangs = self._counter(
            "progan_hangs_total",
            "Reads of a part of the store, loads of a version, reloads of certificates or tokens, and batches that "
            "took longer than --hang-s.",
            "what",
        )
        for what in _HANGS:
            self.hangs.labels(what)
        self.device_memory = self._gauge(
            "progan_device_memory_bytes", "Memory of a GPU that TensorFlow has allocated.", "device"
        )
        self.device_memory_limit = self._gauge(
            "progan_device_memory_limit_bytes", "Memory of a GPU that TensorFlow may allocate.", "device"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float] = _LATENCY_S) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


def _tensorflow_version() -> str:
    """Return the version of whichever of TensorFlow's distributions is installed."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
