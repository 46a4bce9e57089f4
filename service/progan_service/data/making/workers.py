"""Decodes pictures in several processes at once, in order, with few of them in memory."""

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

from progan_service.data.making import worker
from progan_service.data.making.conversion import Conversion
from progan_service.decoding.errors import PictureError
from progan_service.errors import MendableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Processes that convert pictures, and a thread for each that reads files and talks to it.

    The threads call `check` and `records`, each of which takes an idle process. All other methods are of the thread
    that made it. At the end of its `with` block the processes are killed, whatever they do. With a count of 1 there are
    no processes: the work is done where it is asked for.
    """

    def __init__(self, conversion: Conversion, count: int) -> None:
        self._conversion, self._count, self._closed = conversion, count, False
        self._idle = SimpleQueue[_Process]()
        self._processes: set[_Process] = set()
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        if self._count > 1:
            for _ in range(self._count):
                self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._closed = True
        for process in list(self._processes):
            process.kill()  # a thread may wait for it
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def check(self, content: bytes) -> None:
        """Raise PictureError for a picture that cannot be used."""
        self._ask(worker.CHECK, content) if self._processes else self._conversion.check(content)

    def records(self, content: bytes) -> bytes:
        """Return the records of a picture. Raises PictureError."""
        return self._ask(worker.RECORDS, content) if self._processes else self._conversion.records(content)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item, in order. At most two items for each process are under way."""
        if self._count == 1:
            yield from map(function, items)
            return
        pending = deque[Future[Result]]()
        for item in items:
            pending.append(self._threads.submit(function, item))
            if len(pending) == 2 * self._count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _start(self) -> None:
        process = _Process(self._conversion)
        self._processes.add(process)
        self._idle.put(process)

    def _ask(self, task: int, content: bytes) -> bytes:
        process = self._idle.get()
        reply = process.ask(task, content)
        if reply is None:
            code = process.exit_code()
            self._replace(process)
            raise _reason(code)
        self._idle.put(process)
        number, answer = reply
        if number == worker.TOO_SMALL:
            raise self._conversion.too_small(worker.SIZE.unpack(answer))
        if number == worker.REFUSED:
            raise PictureError(answer.decode())
        return answer

    def _replace(self, ended: "_Process") -> None:
        if self._closed:
            self._idle.put(ended)  # nobody waits for a process that will not come
        else:
            self._processes.discard(ended)
            ended.close()
            self._start()


def _reason(code: int) -> Exception:
    """Return the error that the end of a process amounts to."""
    if code == -signal.SIGKILL:
        return MendableError("a process that decodes pictures was killed: there may be too little memory")
    if code < 0:
        return PictureError(f"crashes its decoder ({signal.strsignal(-code)})")
    return MendableError(f"a process that decodes pictures ended with exit code {code}")


class _Process:
    """One worker. It ends when this process does, because its input ends then."""

    def __init__(self, conversion: Conversion) -> None:
        command = [sys.executable, "-P", "-m", worker.__name__, json.dumps(asdict(conversion))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command, which ends its workers
        )

    def ask(self, task: int, content: bytes) -> tuple[int, bytes] | None:
        """Return the reply, or None if the process has ended."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            worker.send(self._process.stdin, task, content)
            return worker.receive(self._process.stdout)
        return None

    def exit_code(self) -> int:
        """Return the exit code of a process that gave no reply, negative after a signal."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=10)  # it may still write a core dump
        self.kill()
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait for the end of a process that was killed, and close its pipes. No thread may talk to it any more."""
        with suppress(BrokenPipeError):  # what was to be written to it
            self._process.__exit__(None, None, None)
