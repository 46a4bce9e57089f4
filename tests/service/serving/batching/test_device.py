"""The threads of a device: one work after the other, or two at a time; in the background when nothing else waits."""

import threading
from collections.abc import Callable

from progan_service.serving.batching.device import DeviceThreads


def test_work_in_the_background_lets_others_go_first_seven_times() -> None:
    ran: list[str] = []
    begin, over = threading.Event(), threading.Event()
    device = DeviceThreads("test")

    def next_batch(result: str = "") -> None:
        """Batches of images come one after the other, without a pause."""
        ran.append(result)
        if len(ran) < 12:
            device.start(lambda: "images", next_batch)
        else:
            over.set()

    device.start(lambda: begin.wait(10) and "images", next_batch)
    device.start(lambda: "gradient", ran.append, background=True)
    begin.set()
    assert over.wait(10)
    device.close()
    assert ran == [*["images"] * 8, "gradient", *["images"] * 3]


def test_what_it_computed_may_bring_new_work_which_goes_first() -> None:
    ran: list[str] = []
    begin, over = threading.Event(), threading.Event()
    device = DeviceThreads("test")

    def more(result: str) -> None:
        ran.append(result)
        device.start(lambda: "next images", ran.append)

    device.start(lambda: begin.wait(10) and "images", more)
    device.start(lambda: "gradient", lambda result: (ran.append(result), over.set()), background=True)
    begin.set()
    assert over.wait(10)
    device.close()
    assert ran == ["images", "next images", "gradient"]


class Counted:
    """Work that notes how many run at a time. While `gate` is shut, it waits."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.most = 0
        self._running = 0
        self._changed = threading.Condition()

    def work(self, name: str) -> Callable[[], str]:
        def run() -> str:
            with self._changed:
                self._running += 1
                self.begun.append(name)
                self.most = max(self.most, self._running)
                self._changed.notify_all()
            assert self.gate.wait(10)
            with self._changed:
                self._running -= 1
            return name

        return run

    def wait_for(self, begun: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= begun, 10)


def test_two_at_a_time_run_where_both_may_overlap() -> None:
    counted, device, over = Counted(), DeviceThreads("test", 2), threading.Semaphore(0)
    for name in "abcd":
        device.start(counted.work(name), lambda _: over.release(), overlaps=True)
    counted.wait_for(2)
    counted.gate.set()
    assert all(over.acquire(timeout=10) for _ in range(4))
    device.close()
    assert counted.most == 2
    assert sorted(counted.begun[:2]) == ["a", "b"]


def test_work_that_may_not_overlap_runs_alone_and_in_its_turn() -> None:
    counted, device, over = Counted(), DeviceThreads("test", 2), threading.Semaphore(0)
    device.start(counted.work("a"), lambda _: over.release(), overlaps=True)
    counted.wait_for(1)
    device.start(counted.work("alone"), lambda _: over.release())
    device.start(counted.work("b"), lambda _: over.release(), overlaps=True)
    counted.gate.set()
    assert all(over.acquire(timeout=10) for _ in range(3))
    device.close()
    assert counted.most == 1
    assert counted.begun == ["a", "alone", "b"]


def test_with_one_thread_nothing_overlaps() -> None:
    counted, device, over = Counted(), DeviceThreads("test"), threading.Semaphore(0)
    counted.gate.set()
    for name in "abc":
        device.start(counted.work(name), lambda _: over.release(), overlaps=True)
    assert all(over.acquire(timeout=10) for _ in range(3))
    device.close()
    assert (counted.most, counted.begun) == (1, ["a", "b", "c"])


def test_work_in_the_background_lets_overlapping_work_go_first_seven_times_and_then_runs_alone() -> None:
    counted, device, over = Counted(), DeviceThreads("test", 2), threading.Event()

    def next_batch(_: str) -> None:
        """Two batches of images are always in flight."""
        if len(counted.begun) < 20:
            device.start(counted.work("images"), next_batch, overlaps=True)
        else:
            over.set()

    for _ in range(2):
        device.start(counted.work("images"), next_batch, overlaps=True)
    counted.wait_for(2)
    device.start(counted.work("gradient"), lambda _: None, background=True)
    counted.gate.set()
    assert over.wait(10)
    device.close()
    assert counted.begun.index("gradient") == 2 + 7
    assert counted.most == 2
