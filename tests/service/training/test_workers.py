"""The workers of a run: who they are, and that they meet before TensorFlow joins them."""

import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from progan_service.errors import ConfigError
from progan_service.training.workers import WorkerLostError, WorkerPortError, Workers, meet

# Who they are


@pytest.mark.parametrize(("index", "chief"), [(0, True), (1, False)])
def test_workers_as_the_environment_tells_them(index: int, chief: bool) -> None:
    text = f'{{"cluster": {{"worker": ["a:1", "b:2"]}}, "task": {{"type": "worker", "index": {index}}}}}'
    workers = Workers.from_json(text)
    assert workers == Workers(("a:1", "b:2"), index)
    assert workers.chief is chief


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("two of them", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError('cluster')"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError('task')"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "KeyError('index')"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
            "all tasks must be of type worker",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
            "all tasks must be of type worker",
        ),
        (
            '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
            "worker is 'a:1': it must be a list of addresses",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
            "worker has 'b': an address is HOST:PORT",
        ),
        ('{"cluster": {"worker": ["a:1", 2]}, "task": {"type": "worker", "index": 0}}', "AttributeError"),
        (
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
            "task index is 2: there are 2 workers",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": "0"}}',
            "task index is '0': there are 2 workers",
        ),
    ],
)
def test_what_tells_no_workers_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Workers.from_json(text)
    assert str(refused.value).startswith(f"TF_CONFIG is {text!r}: ")
    assert problem in str(refused.value)


# How they meet


def free_addresses(count: int) -> tuple[str, ...]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    return addresses


def never() -> bool:
    return False


def test_three_workers_meet() -> None:
    addresses = free_addresses(3)
    all_met = Barrier(3)

    def come(index: int) -> bool:
        met = meet(Workers(addresses, index), report=said.append, stopping=never)
        with socket.create_server(("127.0.0.1", int(addresses[index].rpartition(":")[2]))):  # as TensorFlow does then
            all_met.wait()
        return met

    said: list[str] = []
    with ThreadPoolExecutor() as workers:
        assert list(workers.map(come, range(3))) == [True, True, True]
    assert said == [f"waiting for 3 workers, at most 600 s: {', '.join(addresses)}"] * 3


def test_who_is_missing_is_named_and_the_run_can_go_on() -> None:
    here, missing, unknown = *free_addresses(2), "progan-train-2.progan-train.invalid:2222"
    problem = f"^{missing}, {unknown}: no answer within 0 s; run all workers at the same time, and see that each can"
    with pytest.raises(WorkerLostError, match=problem) as lost:
        meet(Workers((here, missing, unknown), 0), report=print, stopping=never, within_s=0)
    assert lost.value.exit_code == 75


def test_a_signal_ends_the_wait() -> None:
    polled = iter([False, True])
    assert not meet(Workers(free_addresses(2), 1), report=print, stopping=lambda: next(polled))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        workers = Workers((f"127.0.0.1:{port}", "127.0.0.1:1"), 0)
        with pytest.raises(WorkerPortError, match=f"^127.0.0.1:{port}: port {port} is taken on this machine; end what"):
            meet(workers, report=print, stopping=never)
