"""What this protocol says about the server, its models and what they have done."""

from collections.abc import Iterable
from typing import Any

from progan_service import __version__
from progan_service.serving.models.model import Model, State
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.open_inference import messages
from progan_service.serving.protocols.open_inference.parse import OUTPUTS
from progan_service.serving.watching.metrics import Metrics
from progan_service.serving.watching.statistics import Total

_PLATFORM = "progan"
_EXTENSIONS = (  # "statistics" lets perf_analyzer ask for them
    *("binary_tensor_data", "model_configuration", "model_repository"),
    *("parameters", "schedule_policy", "statistics"),
)
_INDEX_STATES = {
    State.READY: "READY",
    State.LOADING: "LOADING",
    State.DRAINING: "UNLOADING",
    State.AVAILABLE: "UNAVAILABLE",
    State.FAILED: "UNAVAILABLE",
}


def server() -> Any:
    """Return the ServerMetadataResponse."""
    return messages.ServerMetadataResponse(name="progan", version=__version__, extensions=_EXTENSIONS)


def metadata(model: Model, version: LoadedVersion) -> Any:
    """Return the ModelMetadataResponse of a version. Of the outputs, only `images` is declared.

    Load generators ask for every output that is declared, and files would add the making of PNG to each benchmark.
    """
    known = version.metadata
    reply = messages.ModelMetadataResponse(name=model.name, platform=_PLATFORM)
    reply.versions.extend(str(number) for number in sorted(model.loaded))
    reply.inputs.add(name="latents", datatype="FP32", shape=[-1, known.latent_size])
    reply.inputs.add(name="seeds", datatype="UINT64", shape=[-1, 1])
    if known.label_count:
        reply.inputs.add(name="labels", datatype="FP32", shape=[-1, known.label_count])
    reply.outputs.add(name="images", datatype="UINT8", shape=[-1, *_image_shape(version)])
    return reply


def config(version: LoadedVersion, most_images: int) -> Any:
    """Return the ModelConfigResponse of a version; `most_images` are made in one call."""
    known = version.metadata
    reply = messages.ModelConfigResponse()
    model = reply.config
    model.name, model.platform, model.backend = version.name, _PLATFORM, _PLATFORM
    model.max_batch_size = most_images
    model.input.add(name="latents", data_type="TYPE_FP32", dims=[known.latent_size], optional=True)
    model.input.add(name="seeds", data_type="TYPE_UINT64", dims=[1], optional=True)
    if known.label_count:
        model.input.add(name="labels", data_type="TYPE_FP32", dims=[known.label_count])
    model.output.add(name="images", data_type="TYPE_UINT8", dims=_image_shape(version))
    model.dynamic_batching.preferred_batch_size.append(version.batcher.max_batch_size)
    model.model_transaction_policy.decoupled = False
    model.parameters["extra_outputs"].string_value = ",".join(name for name in OUTPUTS if name != "images")
    return reply


def index(models: Iterable[Model], *, ready: bool) -> Any:
    """Return the RepositoryIndexResponse: each version of each model, only ready ones if that is asked for."""
    reply = messages.RepositoryIndexResponse()
    for model in models:
        for version in sorted(model.versions, key=lambda version: version.number):
            if version.state is State.READY or not ready:
                reply.models.add(
                    name=model.name,
                    version=str(version.number),
                    state=_INDEX_STATES[version.state],
                    reason=version.error,
                )
    return reply


def statistics(version: LoadedVersion, metrics: Metrics) -> Any:
    """Return the ModelStatistics of a version since the server started. Inputs take no time of their own."""
    seen = metrics.statistics.of(version.name, version.number)
    batches = metrics.batches_of(version.name, version.number)
    stats = messages.ModelStatistics(
        name=version.name,
        version=str(version.number),
        last_inference=int(seen.last_s * 1000),
        inference_count=seen.images,
        execution_count=sum(batch.count for batch in batches.values()),
    )
    calls = stats.inference_stats
    _set(calls.success, seen.succeeded)
    _set(calls.fail, seen.failed)
    _set(calls.queue, seen.queue)
    _set(calls.compute_input, Total(seen.succeeded.count))
    _set(calls.compute_infer, seen.inference)
    _set(calls.compute_output, seen.encoding)
    for size, batch in batches.items():
        _set(stats.batch_stats.add(batch_size=size).compute_infer, batch)
    return stats


def _set(duration: Any, total: Total) -> None:
    duration.count, duration.ns = total.count, int(total.seconds * 1e9)


def _image_shape(version: LoadedVersion) -> list[int]:
    return [version.metadata.resolution, version.metadata.resolution, version.metadata.channels]
