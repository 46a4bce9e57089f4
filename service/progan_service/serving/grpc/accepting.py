"""A gRPC server that goes on accepting calls, whatever callers send.

The server of grpc.aio accepts all calls in one loop. There a path that is not UTF-8 raises an exception, which ends the
loop for everybody. Here each method has tasks that accept its calls. Others accept the calls of all other paths, and
nothing reads those paths.

This uses internals of grpcio: service/pyproject.toml admits only releases with which the tests have passed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs of grpcio leave it out

from progan_service.serving.listen import NotAcceptingError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_tasks_of_call: ContextVar[list[asyncio.Task[Any]]] = ContextVar("tasks_of_call")

_AT_ONCE = (
    128  # calls of a method that can be accepted in one turn of the event loop; more wait in gRPC, which hides them
)
_UNKNOWN = ""  # stands for the path of every method that is not registered


def hang_up() -> NoReturn:
    """End the call of the running task at once, with all that gRPC holds for it. Its caller gets CANCELLED.

    grpc.aio has no way to end a call whose message is not taken: a status would wait behind the message. gRPC cancels a
    call when nobody refers to it any more, so the task that waits for its end is cancelled.
    """
    for task in _tasks_of_call.get([]):
        task.cancel()
    raise asyncio.CancelledError


class AcceptingServer(cygrpc.AioServer):  # type: ignore[misc]
    """Accepts calls from `start` to `shutdown`. Made and used in one event loop.

    end   when calls are no longer accepted: the error that is the cause; None after `shutdown`
    """

    def __init__(
        self,
        guards: Sequence[grpc.aio.ServerInterceptor],
        unknown: Callable[[], Handler],
        options: Sequence[tuple[str, Any]],
    ) -> None:
        """`unknown` makes the handler of a call whose method is not registered."""
        self.end: asyncio.Future[NotAcceptingError | None] = asyncio.get_running_loop().create_future()
        self._guards = tuple(guards)
        self._unknown = unknown
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        super().__init__(asyncio.get_running_loop(), None, (), self._guards, tuple(options), None)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the methods of a service, by name. Generated code calls this, too."""
        by_path = {f"/{service}/{name}": handler for name, handler in handlers.items()}
        self._handlers |= by_path
        super().add_registered_method_handlers(by_path)

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Handler:
        """Return the handler of a call. grpc.aio calls this after the guards."""
        return self._handlers.get(details.method) or self._unknown()

    async def _server_main_loop(self, started: asyncio.Future[bool]) -> None:
        """Wait as long as calls are accepted. grpc.aio runs this in a task from `start` on."""
        cause: BaseException | None = None
        try:
            await super()._server_main_loop(started)
        except BaseException as error:
            cause = error
        self.end.set_result(NotAcceptingError(repr(cause)) if self.is_running() else None)

    def _make_request_call_future(self, path: bytes | None) -> asyncio.Future[NoReturn]:
        """Accept the calls of a registered path, or with None those of all others, from now on.

        grpc.aio expects the next call from this future, and would handle it and ask for another. It gets none.
        """
        end: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self._task(self._accept(path, end, _AT_ONCE))
        return end

    async def _accept(self, path: bytes | None, end: asyncio.Future[NoReturn], at_once: int) -> None:
        """Accept calls until something fails, and let `end` fail with it. The first calls bring more such tasks."""
        method = path.decode() if path else _UNKNOWN
        loop = asyncio.get_running_loop()
        try:
            while True:
                arrival = self._task(self._request_registered_call(path) if path else self._request_call())
                # gRPC writes the call into the memory of that task, even if nobody waits for it any more.
                state = await asyncio.shield(arrival)
                if at_once > 1:
                    at_once //= 2
                    self._task(self._accept(path, end, at_once))
                answer = cygrpc._handle_rpc(method, self, self._guards, state, loop, False)
                tasks: list[asyncio.Task[Any]] = []
                _tasks_of_call.set(tasks)  # the task of the call starts with this context
                tasks.append(self._task(cygrpc._schedule_rpc_coro(answer, state, loop, method)))
                del answer, state  # or they would stay until the next call
        except BaseException as error:
            if not end.done():
                end.set_exception(error)
            raise

    def _task(self, work: Any) -> asyncio.Task[Any]:
        """Start a task, and hold it while it runs: the event loop would not."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio would log that nobody has asked for it
