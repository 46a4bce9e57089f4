"""Draw a dataset, train a tiny network on it, export it, serve it and ask for one picture. Takes half a minute.

    python service/examples/train_and_serve.py DIRECTORY

Each step has a command that does the same. The network trains for seconds only, so the picture shows noise.
"""

import subprocess
import sys
from pathlib import Path

from progan_client import Client
from progan_service.data.dataset import Dataset
from progan_service.data.making.demo import build_demo
from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig
from progan_service.store.store import ModelStore
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.run.directory import claim_run_directory

import_tensorflow()
from progan_service.export.exportable import Exportable  # noqa: E402
from progan_service.export.version import export_version  # noqa: E402
from progan_service.sources.run import load_run  # noqa: E402
from progan_service.training.trainer import train  # noqa: E402


def main(directory: Path) -> None:
    draw_dataset(directory / "faces")
    train_network(directory / "faces", directory / "run")
    export(directory / "run", directory / "store")
    serve_one_picture(directory / "store", directory / "face.png")


def draw_dataset(faces: Path) -> None:
    """progan dataset demo faces --resolution 8 --count 64"""
    build_demo(faces, resolution=8, count=64, seed=0, progress=lambda stage, done, total: None)


def train_network(faces: Path, run: Path) -> None:
    """progan train --data faces --run run --total-kimg 0.3 --stable-kimg 0.1 ..."""
    dataset = Dataset.open(faces)
    config = RunConfig(
        DatasetConfig(dataset.name, dataset.count, dataset.digest),
        NetworkConfig(resolution=8, fmap_base=64, fmap_max=16),
        TrainingConfig(total_kimg=0.3, stable_kimg=0.1, fade_kimg=0.1, tick_kimg={4: 0.1}),
    )
    claim_run_directory(run, config)
    train(run, config, dataset, report=print, progress=lambda done, total: None, stopping=lambda: False)


def export(run: Path, store: Path) -> None:
    """progan export run --store store --name faces"""
    store.mkdir()
    version = export_version(Exportable.of(load_run(run)), ModelStore(store), "faces")
    print(f"{store}: faces version {version}")


def serve_one_picture(store: Path, picture: Path) -> None:
    """progan serve --store store, and progan-client generate --seed 1 -o face.png"""
    options = ["--store", store, "--port", "0", "--http-port", "0", "--lame-duck-s", "0"]
    command = [Path(sys.executable).parent / "progan", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            listening = next(line for line in server.stdout if "listening: gRPC " in line)
            with Client(listening.partition("gRPC ")[2].partition(",")[0]) as client:
                client.wait_until_ready(timeout_s=60)
                client.generate(seeds=[1])[0].save(picture)
        finally:
            server.terminate()
            server.communicate()
    print(f"{picture}: the image of seed 1")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python train_and_serve.py DIR  (a directory for the dataset, the run and the model store)")
    main(Path(sys.argv[1]))
