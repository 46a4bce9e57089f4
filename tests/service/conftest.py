"""Real things made tiny, once for all tests: drawn faces of 8x8 pixels, a finished training run on them."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.commands.parser import main
from progan_service.data.dataset import Dataset
from progan_service.data.making.demo import build_demo
from progan_service.model.config import NetworkConfig
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig

FACES = 48


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def progan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """Runs the `progan` command in this process: `progan("models", "--store", store).out`."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["progan", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """48 drawn faces in the levels 4 and 8."""
    directory = tmp_path_factory.mktemp("data") / "faces"
    build_demo(directory, 8, FACES, seed=0, progress=lambda *_: None)
    return Dataset.open(directory)


@pytest.fixture(scope="session")
def run_config() -> RunConfig:
    """28 steps of 8 images: 4x4 to image 64, 8x8 fading in to 128 and stable to 224; a tick every 32 images."""
    return RunConfig(
        DatasetConfig("faces", FACES),
        NetworkConfig(resolution=8, fmap_base=32, fmap_max=8),
        TrainingConfig(stable_kimg=0.064, fade_kimg=0.064, total_kimg=0.224, tick_kimg={4: 0.032}, batch_sizes={4: 8}),
    )


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    faces: Dataset,
    run_config: RunConfig,
    run_report: list[str],
    run_progress: list[int],
) -> Path:
    """The directory of `run_config` trained to its end. To be read only: a test that changes it takes a copy."""
    from progan_service.training.run.directory import claim_run_directory
    from progan_service.training.trainer import train

    run = tmp_path_factory.mktemp("runs") / "faces"
    claim_run_directory(run, run_config)
    assert train(
        run,
        run_config,
        faces,
        report=run_report.append,
        progress=lambda done, _: run_progress.append(done),
        stopping=lambda: False,
    )
    return run


@pytest.fixture(scope="session")
def run_report() -> list[str]:
    """What `finished_run` reported, a line a tick."""
    return []


@pytest.fixture(scope="session")
def run_progress() -> list[int]:
    """Images that `finished_run` had shown after each step."""
    return []


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of `finished_run` of one's own."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@dataclass(frozen=True, eq=False)
class WatchedDataset(Dataset):
    """Notes which images are read, and at which resolution."""

    read: list[tuple[int, list[int]]] = field(default_factory=list)

    def images(self, indices: NDArray[np.int64], resolution: int) -> NDArray[np.uint8]:
        self.read.append((resolution, indices.tolist()))
        return super().images(indices, resolution)


@pytest.fixture(scope="session")
def faces_16(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 drawn faces in the levels 4, 8 and 16."""
    directory = tmp_path_factory.mktemp("data") / "faces"
    build_demo(directory, 16, 24, seed=0, progress=lambda *_: None)
    return Dataset.open(directory)


@pytest.fixture
def watched(faces_16: Dataset) -> WatchedDataset:
    """The faces of `faces_16`; `read` lists what was read of them."""
    return WatchedDataset(**vars(faces_16))
