"""What the metrics say of a model at any time. The thread of the HTTP port asks: these functions only read."""

from functools import partial

from progan_service.serving.batching.work import Priority
from progan_service.serving.models.model import Model
from progan_service.serving.watching.metrics import Metrics


def measure(model: Model, metrics: Metrics) -> None:
    """Begin to measure a model. Its series stay when it leaves the store."""
    metrics.know_model(model.name)
    metrics.capacity.labels(model.name).set_function(partial(_images_per_s, model))
    metrics.max_batch_rows.labels(model.name).set_function(partial(_max_batch_rows, model))
    for priority in Priority:
        metrics.queue_rows.labels(model.name, priority.label).set_function(partial(_queued_rows, model, priority))


def _images_per_s(model: Model) -> float:
    serving = model.serving
    return serving.batcher.images_per_s if serving else 0.0


def _max_batch_rows(model: Model) -> int:
    serving = model.serving
    return serving.batcher.max_batch_size if serving else 0


def _queued_rows(model: Model, priority: Priority) -> int:
    return sum(loaded.batcher.queued_rows(priority) for loaded in model.in_memory)
