"""The account of a call, the same for every protocol: metrics, a span, a line of the log."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from progan_service.serving.errors import InternalError, ServingError
from progan_service.serving.watching import traces
from progan_service.serving.watching.calls import Call, log_call, ran_out_of_time
from progan_service.serving.watching.metrics import Metrics

log = logging.getLogger(__name__)


@contextmanager
def accounted(call: Call, metrics: Metrics, headers: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
    """Account for the call that runs within the block.

    Every error leaves the block as a ServingError, for the protocol to send; nothing else about it may reach the
    caller. Only what ends the call from outside (asyncio.CancelledError, GeneratorExit) leaves as it is.
    """
    started = time.monotonic()
    traces.begin(call, headers)
    try:
        yield
        call.end("OK")
    except BaseException as error:
        if _ends_the_call(error):
            call.end("DEADLINE_EXCEEDED" if ran_out_of_time(call.deadline) else "CANCELLED")
            raise
        ours = error if isinstance(error, ServingError) else _internal_error(error, call)
        call.end(ours.code, ours.reason, str(ours))
        raise ours from None
    finally:
        duration_s = time.monotonic() - started
        metrics.requests.labels(call.method, call.model, call.code).inc()
        metrics.request_duration.labels(call.method, call.model).observe(duration_s)
        traces.end(call)
        log_call(call, duration_s)


def _ends_the_call(error: BaseException) -> bool:
    """Return whether the call itself was cancelled, so that nobody waits for its answer.

    A CancelledError may also come from something that the call waited for; then the call's own task goes on.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit | KeyboardInterrupt | SystemExit)


def _internal_error(fault: BaseException, call: Call) -> InternalError:
    call.incident = uuid.uuid4().hex[:12]
    fields = {"incident": call.incident, "request_id": call.request_id}
    log.error("%s failed, id %s", call.method, call.incident, exc_info=fault, extra={"fields": fields})
    return InternalError(call.incident)
