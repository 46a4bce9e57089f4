"""A run on several workers: that they train what one would, and that they stop and fail together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from progan_service.commands.parser import parser
from progan_service.data.dataset import Dataset
from progan_service.errors import ConfigError
from progan_service.training.config import RunConfig
from progan_service.training.devices import agreed, choose_strategy, lost_workers
from progan_service.training.run.checkpoint import read_checkpoint
from progan_service.training.run.directory import read_run_config
from progan_service.training.trainer import train
from progan_service.training.workers import WorkerLostError

Scalars = Callable[[Path], dict[str, dict[int, float]]]

START_S = 400  # what a start may take at most, on a busy machine
END_S = 600


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("tf_config", "problem"),
    [
        ("two of them", "TF_CONFIG is 'two of them': "),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
            "--auto-batch is for one worker: give batches that fit, as its dry run finds them",
        ),
    ],
)
def test_the_command_refuses_it_before_anything_is_made(
    faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf_config: str, problem: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", tf_config)
    command = ["train", "--data", faces.directory, "--run", tmp_path / "run", "--auto-batch"]
    arguments = parser().parse_args(list(map(str, command)))
    with pytest.raises(ConfigError) as refused:
        arguments.run(arguments)
    assert str(refused.value).startswith(problem)
    assert not (tmp_path / "run").exists()


def test_alone_a_worker_takes_the_device_there_is() -> None:
    assert choose_strategy(None).num_replicas_in_sync == 1


@dataclass(frozen=True)
class Cluster:
    """What `agreed` asks of a strategy; `others` are the numbers of the other workers."""

    others: tuple[int, ...]

    @property
    def num_replicas_in_sync(self) -> int:
        return 1 + len(self.others)

    def experimental_distribute_values_from_function(self, value: Callable[[None], tf.Tensor]) -> list[tf.Tensor]:
        return [value(None), *(tf.constant(number, tf.float64) for number in self.others)]

    def reduce(self, how: tf.distribute.ReduceOp, values: list[tf.Tensor], axis: None) -> tf.Tensor:
        assert (how, axis) == (tf.distribute.ReduceOp.MEAN, None)
        return tf.reduce_mean(tf.stack(values))


@pytest.mark.parametrize("others", [(), (80,), (80, 80, 80)])
def test_workers_with_the_same_number_agree(others: tuple[int, ...]) -> None:
    assert agreed(80, Cluster(others))


@pytest.mark.parametrize("others", [(0,), (81,), (80, 80, 81), (12_000_000, 80, 80, 80, 80, 80, 80)])
def test_workers_with_other_numbers_do_not(others: tuple[int, ...]) -> None:
    assert not agreed(80, Cluster(others))


def test_workers_that_found_different_checkpoints_do_not_train(
    tmp_path: Path, run_config: RunConfig, faces: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progan_service.training.trainer.agreed", lambda number, _: agreed(number, Cluster((8,))))
    problem = "^the workers found different checkpoints; they must share one run directory$"
    with pytest.raises(WorkerLostError, match=problem):
        train(tmp_path, run_config, faces, report=print, progress=lambda *_: None, stopping=lambda: False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [tf.errors.UnavailableError, tf.errors.DeadlineExceededError])
def test_what_tensorflow_says_of_a_lost_worker_becomes_plain(error: type[tf.errors.OpError]) -> None:
    with (
        pytest.raises(WorkerLostError, match="^a worker was lost; run all of them again to go on from the newest"),
        lost_workers(),
    ):
        raise error(None, None, "Connection reset by peer")


# Together


@dataclass
class Worker:
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def wait(self, within_s: float = END_S) -> int:
        return self.process.wait(timeout=within_s)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()


@contextmanager
def two_workers(directory: Path, runs: tuple[Path, Path], *options: object) -> Iterator[tuple[Worker, Worker]]:
    """`progan train` in two processes; none of them is left."""
    directory.mkdir()
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with ExitStack() as stack:
        workers = []
        for index, run in enumerate(runs):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            command = [Path(sys.executable).parent / "progan", "train", "--run", run, *options]
            out, err = directory / f"{index}.out", directory / f"{index}.err"
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=stack.enter_context(out.open("wb")),
                stderr=stack.enter_context(err.open("wb")),
                env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            workers.append(Worker(process, out, err))
        yield workers[0], workers[1]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def wait_until(come: Callable[[], object], workers: tuple[Worker, Worker]) -> None:
    give_up = time.monotonic() + START_S
    while not come():
        for worker in workers:
            assert worker.process.poll() is None, worker.err.read_text()
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.05)


def newest(run: Path) -> int:
    """Images shown at the newest checkpoint; 0 without one."""
    return max((int(path.stem.removeprefix("images-")) for path in run.glob("checkpoints/images-*.npz")), default=0)


def options(dataset: Dataset, **settings: object) -> list[str]:
    small = {"data": dataset.directory, "batch_sizes": 8, "fmap_base": 32, "fmap_max": 8}
    return [word for name, value in (small | settings).items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_two_workers_train_what_one_does_and_stop_together(tmp_path: Path, faces: Dataset, scalars_of: Scalars) -> None:
    # 4x4 to image 32, 8x8 faded in at 64; a tick every step. Where the second worker writes to, nothing is to appear.
    growing = options(faces, stable_kimg=0.032, fade_kimg=0.032, tick_kimg=0.008, total_kimg=1000)
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    with two_workers(tmp_path / "logs", (run, elsewhere), *growing) as workers:
        chief, second = workers
        wait_until(lambda: any("8x8  alpha 1.00" in line for line in chief.lines()), workers)
        second.process.send_signal(signal.SIGTERM)
        assert (second.wait(), chief.wait()) == (75, 75), chief.err.read_text() + second.err.read_text()
        assert chief.lines()[-1] == f"stopped by a signal; everything is saved, progan train --run {run} goes on"
        assert [line.split(",")[0] for line in second.lines()] == [
            "waiting for 2 workers",
            "stopped by a signal; everything is saved",
        ]
        assert chief.err.read_text() == second.err.read_text() == ""
    assert not elsewhere.exists()
    shown = newest(run)
    assert shown >= 72

    one = tmp_path / "one"
    config = read_run_config(run)
    config = replace(config, training=replace(config.training, total_kimg=shown / 1000))
    assert train(one, config, faces, report=lambda _: None, progress=lambda *_: None, stopping=lambda: False)
    found, expected = scalars_of(run), scalars_of(one)
    for name in ("loss/D", "loss/penalty", "loss/penalty_norm", "loss/distance", "loss/G"):
        assert found[name].keys() == expected[name].keys() == set(range(8, shown + 1, 8))
        assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-3)
    arrays, others = (read_checkpoint(d / "checkpoints" / f"images-{shown:09d}.npz") for d in (run, one))
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        if array.dtype == np.float32:
            np.testing.assert_allclose(array, others[name], rtol=1e-3, atol=1e-3, err_msg=name)


def test_when_a_worker_is_killed_the_other_ends_and_both_can_go_on(tmp_path: Path, faces: Dataset) -> None:
    run = tmp_path / "run"
    small = options(faces, resolution=4, tick_kimg=0.08)
    with two_workers(tmp_path / "first", (run, run), *small, "--total-kimg", 1000) as workers:
        chief, second = workers
        wait_until(lambda: newest(run) > 0, workers)
        second.process.kill()
        assert chief.wait() == 75, chief.err.read_text()
        assert chief.err.read_text() == (
            "progan: a worker was lost; run all of them again to go on from the newest checkpoint\n"
        )

    left = newest(run)
    with two_workers(tmp_path / "again", (run, run), *small, "--total-kimg", (left + 80) / 1000) as workers:
        chief, second = workers
        assert (chief.wait(START_S), second.wait()) == (0, 0), chief.err.read_text() + second.err.read_text()
        assert f"going on from {run}/checkpoints/images-{left:09d}.npz" in chief.lines()
    assert newest(run) == left + 80
