"""The server's metrics, in base units. No label value is ever a name that a caller made up."""

from collections.abc import Collection, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from progan_service.serving.watching.statistics import Statistics, Total

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of time series

ProcessState = Literal["not_ready", "ready", "lame_duck", "draining"]

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LOAD_S = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_LOAD_FAILURES = ("invalid", "unreadable", "rollout", "memory", "error")  # the values of `reason`
_REFUSALS = {"QUOTA_EXCEEDED": "quota", "PERMISSION_DENIED": "permission"}  # by reason of the error
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One set of metrics in a registry of its own, so that two servers in a process do not mix.

    statistics   of the calls by version; used in the event loop only

    Any thread may change a metric: each has a lock of its own. The HTTP port's thread reads them all. It also calls
    what `set_function` was given, without a lock: such a function may only read, and must bear changes meanwhile.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.statistics = Statistics()
        ProcessCollector(registry=self.registry)
        self.connections = self._gauge("progan_connections", "Open connections, by port: grpc or http.", "port")
        self.connections.labels("grpc")
        self.connections_closed = self._counter(
            "progan_connections_closed_total",
            "gRPC connections closed to make room for others, or because their address had too many: room or address.",
            "reason",
        )
        for reason in ("room", "address"):
            self.connections_closed.labels(reason)
        self._of_process()
        self._of_calls()
        self._of_batches()
        self._of_models()

    def _of_process(self) -> None:
        build = self._gauge("progan_build_info", "1; the labels say what runs.", "version", "tensorflow")
        build.labels(version("progan-service"), _tensorflow_version()).set(1)
        self._ready = self._gauge("progan_ready", "1 while the server answers calls: at least one model is ready.")
        self._state = self._gauge("progan_state", "1 for the state that the server is in.", "state")
        self.set_state("not_ready")

    def set_state(self, state: ProcessState) -> None:
        self._ready.set(state == "ready")
        for one in get_args(ProcessState):
            self._state.labels(one).set(one == state)

    def know_model(self, model: str) -> None:
        """Begin to count the failures of a model, from 0: else the first one would be no increase."""
        for reason in _LOAD_FAILURES:
            self.model_load_failures.labels(model, reason)

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

    def _of_calls(self) -> None:
        self.requests = self._counter(
            "progan_requests_total", "Calls that have ended, by name of the status code.", "method", "model", "code"
        )
        self.request_duration = self._histogram(
            "progan_request_duration_seconds",
            "Duration of a call, from its arrival to its last message, by name of the status code.",
            "method",
            "model",
            "code",
        )
        self.images = self._counter("progan_images_total", "Images made.", "model", "version")
        self.rows_dropped = self._counter(
            "progan_rows_dropped_total",
            "Images that were asked for and not made or not encoded: cancelled, expired or rejected.",
            "reason",
        )
        for reason in ("cancelled", "expired", "rejected"):
            self.rows_dropped.labels(reason)

        self.unsent_bytes = self._gauge(
            "progan_unsent_bytes", "Bytes of images that are being made or wait for their callers to take them."
        )
        self.stalled_readers = self._counter(
            "progan_stalled_readers_total", "Calls that were ended because their caller did not take its images."
        )

        self._callers: set[str] = set()
        self._caller_images = self._counter(
            "progan_caller_images_total", "Images made, by name of the token.", "caller"
        )
        self._caller_refusals = self._counter(
            "progan_caller_refusals_total",
            "Calls refused because of the rights of their token: its quota, or its permission.",
            "caller",
            "reason",
        )

    def set_callers(self, names: Collection[str]) -> None:
        """Count by these callers from now on, from 0, and no longer by those that are gone."""
        for gone in self._callers.difference(names):
            self._caller_images.remove(gone)
            for reason in _REFUSALS.values():
                self._caller_refusals.remove(gone, reason)
        self._callers = set(names)
        for name in self._callers:
            self._caller_images.labels(name)
            for reason in _REFUSALS.values():
                self._caller_refusals.labels(name, reason)

    def count_images_of(self, caller: str, images: int) -> None:
        if caller in self._callers:
            self._caller_images.labels(caller).inc(images)

    def count_refusal_of(self, caller: str, reason: str) -> None:
        """Count a call that ended with this reason, if that is about the rights of its caller."""
        if caller in self._callers and reason in _REFUSALS:
            self._caller_refusals.labels(caller, _REFUSALS[reason]).inc()

    def _of_batches(self) -> None:
        self.queue_rows = self._gauge("progan_queue_rows", "Images that wait for a device.", "priority")
        self.queue_duration = self._histogram(
            "progan_queue_duration_seconds",
            "Queue time of a call's images in a batch, observed once for each call and batch.",
        )
        self.batch_rows = self._histogram("progan_batch_rows", "Images in a batch, without padding.", buckets=_ROWS)
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
        self.out_of_memory = self._counter(
            "progan_out_of_memory_total",
            "Batches that did not fit into the device's memory and were run again in parts.",
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
        self.hangs = self._counter(
            "progan_hangs_total",
            "Reads of a part of the store, loads of a version, and reloads of certificates or tokens that took longer "
            "than --hang-s.",
            "what",
        )
        for what in ("look", "load", "reload"):
            self.hangs.labels(what)
        self.store_failures = self._counter(
            "progan_store_failures_total", "Times that the model store could not be read."
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
