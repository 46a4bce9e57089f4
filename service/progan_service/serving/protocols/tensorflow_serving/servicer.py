"""What TensorFlow Serving's clients ask for: predictions by a signature, and the state of versions."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan_service.serving.batching.work import Priority
from progan_service.serving.errors import InvalidArgument, ModelNotFound, Unsupported, naming
from progan_service.serving.files.encoding import Encoding
from progan_service.serving.jobs.format import Format
from progan_service.serving.jobs.job import Job, asked_by
from progan_service.serving.jobs.limits import Limits
from progan_service.serving.jobs.maker import ImageMaker
from progan_service.serving.jobs.rows import of_labels, of_rows, of_seeds
from progan_service.serving.models.catalog import ModelCatalog
from progan_service.serving.models.model import Model, State
from progan_service.serving.models.permitted import PermittedModels
from progan_service.serving.models.version import LoadedVersion
from progan_service.serving.protocols.tensorflow_serving.signatures import Signature
from progan_service.serving.watching.calls import Call

_STATES = {
    State.AVAILABLE: "START",  # not loaded
    State.LOADING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.FAILED: "END",
}
_NAME_BYTES = 4 * 2**10  # of the longest request that is only names
_MOST_COPIES = 2  # of a row in a request: values may be of 64 bits


@dataclass(frozen=True)
class Selected:
    """A model, and perhaps one of its versions: by number, or by label."""

    name: str
    version: int = 0
    label: str = ""


@dataclass(frozen=True)
class VersionState:
    """`state` is TensorFlow Serving's name for it."""

    number: int
    state: str
    error: str


@dataclass(frozen=True)
class ModelStatus:
    """A model: its versions that were asked for, newest first, and whether it answers."""

    name: str
    ready: bool
    versions: tuple[VersionState, ...]


@dataclass(frozen=True)
class Prediction:
    """Images to make.

    inputs   by name: latents and labels float32 [N, columns], seeds uint64 [N]
    """

    model: Selected
    signature: Signature
    inputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Predicted:
    """Images: pixels uint8 [N, H, W, C], or files if the signature says so."""

    pixels: NDArray[np.uint8]
    files: list[bytes]


class PredictionServicer:
    """Its methods are rpcs of TensorFlow Serving, with arrays for tensors. Used in the event loop only."""

    def __init__(
        self, catalog: ModelCatalog, maker: ImageMaker, limits: Limits, is_ready: Callable[[str], bool]
    ) -> None:
        """`is_ready` tells whether a model answers."""
        self._is_ready = is_ready
        self._catalog = catalog
        self._models = PermittedModels(catalog)
        self._maker = maker
        self._limits = limits

    def request_bytes(self, rpc: str) -> int | None:
        """Return the size of the largest useful request of an rpc over gRPC; None if it may be as large as any."""
        if rpc != "Predict":
            return _NAME_BYTES
        row_bytes = self._catalog.widest_row_bytes()
        return self._limits.request_bytes(_MOST_COPIES * row_bytes) if row_bytes else None

    async def predict(self, request: Prediction, call: Call) -> AsyncGenerator[Predicted, None]:
        with self._use(request.model, call) as version:
            job = asked_by(call, _job(request, version, call.deadline))
            if problem := self._limits.reply_problem(job):
                raise InvalidArgument("inputs", f"{problem}; send several requests")
            async with self._maker.whole(job) as piece:
                self._maker.note_sent(call, job, piece)
                yield Predicted(piece.generated.pixels, piece.files)

    async def metadata(self, request: Selected, call: Call) -> LoadedVersion:
        with self._use(request, call) as version:
            return version

    async def status(self, request: Selected, call: Call) -> ModelStatus:
        """Return the state of the selected version, or of all."""
        try:
            model = self._models.model(call, request.name)
        except ModelNotFound as error:
            raise ModelNotFound(f"Could not find any versions of model {request.name}: {error}") from None
        number = request.version or (self._labelled(model, request.label) if request.label else 0)
        found = [VersionState(each.number, _STATES[each.state], each.error) for each in model.versions]
        versions = tuple(version for version in found if not number or version.number == number)
        if not versions:
            raise ModelNotFound(f"Could not find version {number} of model {request.name}")
        return ModelStatus(model.name, self._is_ready(model.name), versions)

    async def models(self, request: None, call: Call) -> list[str]:
        return [model.name for model in self._models.all(call)]

    async def other(self, request: None, call: Call) -> None:
        raise Unsupported("this server has no classes and no numbers to predict; images come by predict")

    @contextmanager
    def _use(self, selected: Selected, call: Call) -> Iterator[LoadedVersion]:
        """Keep the selected version loaded within the block. Errors begin with TensorFlow Serving's words."""
        which = f"Specific({selected.name}, {selected.version})" if selected.version else f"Latest({selected.name})"
        with ExitStack() as held:
            try:
                model = self._models.model(call, selected.name)
                number = selected.version or (self._labelled(model, selected.label) if selected.label else 0)
                version = held.enter_context(self._models.use(call, model.name, number))
            except ModelNotFound as error:
                raise ModelNotFound(f"Servable not found for request: {which}: {error}") from None
            yield version

    def _labelled(self, model: Model, label: str) -> int:
        """Return the version with a label. A label of digits that is none is a version: some clients send that."""
        if label in model.rollout.labels:
            return model.rollout.labels[label]
        if label.isascii() and label.isdecimal() and len(label) <= 18:
            return int(label)
        known = ", ".join(sorted(model.rollout.labels)) or "none"
        raise InvalidArgument("Unrecognized servable version label", f"{label}; model {model.name!r} has: {known}")


def _job(request: Prediction, version: LoadedVersion, deadline: float) -> Job:
    metadata, signature = version.metadata, request.signature
    needed = signature.inputs(metadata)
    if request.inputs.keys() != set(needed):
        extra = ", ".join(sorted(request.inputs.keys() - set(needed))) or "none"
        missing = ", ".join(sorted(set(needed) - request.inputs.keys())) or "none"
        text = f"must be {', '.join(needed)} for signature {signature.name}; extra: {extra}; missing: {missing}"
        raise InvalidArgument("inputs", text)
    with naming(rows=signature.rows, columns=signature.rows, values=signature.rows):
        given = request.inputs[signature.rows]
        rows = (of_seeds if signature.rows == "seeds" else of_rows)(given, metadata.latent_size)
    with naming(columns="labels", values="labels"):
        labels = of_labels(request.inputs.get("labels"), metadata, rows.count)
    encoding = Encoding.PNG if signature.is_file else Encoding.RAW
    widened = 4 if signature.dtype == "DT_FLOAT" else 1
    return Job(version, rows, labels, Format(encoding), deadline, Priority.INTERACTIVE, widened=widened)
