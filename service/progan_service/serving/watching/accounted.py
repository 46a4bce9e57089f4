"""The account of a call, the same for every protocol: metrics, a span, a line of the log."""

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from progan_service.serving.errors import InternalError, ServingError, Unread
from progan_service.serving.watching import traces
from progan_service.serving.watching.calls import Call, State, log_call, ran_out_of_time
from progan_service.serving.watching.metrics import Metrics

log = logging.getLogger(__name__)

_MAX_CAUSES = 16  # of one error


@contextmanager
def accounted(call: Call, metrics: Metrics, headers: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
    """Account for the call that runs within the block.

    Every error leaves the block as a ServingError, for the protocol to send; nothing else about it may reach the
    caller. Only what ends the call from outside (asyncio.CancelledError, GeneratorExit) leaves as it is.

    No error keeps what the call carried: a request of many megabytes would stay until the next full garbage collection.
    """
    call.began = time.monotonic()
    in_flight = metrics.in_flight.labels(call.method)
    in_flight.inc()
    traces.begin(call, headers)
    try:
        yield
        call.end("OK")
    except BaseException as error:
        _clear_frames(error)
        if _ends_the_call(error):
            call.end("DEADLINE_EXCEEDED" if ran_out_of_time(call.deadline) else "CANCELLED")
            raise
        ours = error if isinstance(error, ServingError) else _internal_error(error, call)
        if isinstance(ours, Unread):
            metrics.requests_unread.inc()
        call.end(ours.code, ours.reason, str(ours))
        try:
            raise ours from None
        finally:
            del ours  # or this frame and the error would keep each other
    finally:
        duration_s = time.monotonic() - call.began
        in_flight.dec()
        metrics.requests.labels(call.method, call.model, call.code).inc()
        metrics.callers.count_call(call.caller, call.reason)
        metrics.request_duration.labels(call.method, call.model, call.code).observe(duration_s, call.exemplar)
        metrics.statistics.add(call, duration_s)
        traces.end(call)
        if call.state is not State.REFUSED or metrics.refusals.is_first(call.method, call.code, call.reason):
            log_call(call, duration_s)


def _ends_the_call(error: BaseException) -> bool:
    """Return whether the call itself was cancelled, so that nobody waits for its answer.

    A CancelledError may also come from something that the call waited for; then the call's own task goes on.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit | KeyboardInterrupt | SystemExit)


def _clear_frames(error: BaseException | None) -> None:
    """Clear the local variables of all functions that an error and its causes came through.

    Local variables that lead back to the error (a future that holds it, say) would keep it, and all others with it.
    """
    for _ in range(_MAX_CAUSES):
        if error is None:
            return
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _internal_error(fault: BaseException, call: Call) -> InternalError:
    call.incident = uuid.uuid4().hex[:12]
    fields = {"incident": call.incident, "request_id": call.request_id}
    log.error("%s failed, id %s", call.method, call.incident, exc_info=fault, extra={"fields": fields})
    return InternalError(call.incident)
