"""A hanging device, and a process that stood still, seen by a watch that looks every second."""

from progan_service.serving.batching.hang import HangWatch


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_batch_that_runs_for_longer_than_allowed_hangs_until_it_ends() -> None:
    time = Time()
    watch = HangWatch(60, time)
    for second in range(1, 61):
        time.now += 1
        assert watch.look({"faces": second, "cars": 0}) == set()
    time.now += 1
    assert watch.look({"faces": 61, "cars": 0}) == {"faces"}
    time.now += 1
    assert watch.look({"faces": 0, "cars": 1}) == set()


def test_a_pause_of_the_process_is_no_hang_and_a_hang_after_it_is_found() -> None:
    time = Time()
    watch = HangWatch(60, time)
    time.now += 1
    assert watch.look({"faces": 0.5}) == set()
    time.now += 70  # SIGSTOP, and SIGCONT 70 s later
    assert watch.look({"faces": 70.5}) == set()
    for second in range(1, 55):
        time.now += 1
        assert watch.look({"faces": 70.5 + second}) == set()
    time.now += 2
    assert watch.look({"faces": 126.5}) == {"faces"}


def test_batch_after_batch_is_no_hang() -> None:
    time = Time()
    watch = HangWatch(60, time)
    for _ in range(200):
        time.now += 1
        assert watch.look({"faces": 0.9}) == set()
