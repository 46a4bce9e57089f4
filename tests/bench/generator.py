"""Images/s of the exported generator, of TensorFlow's graphs of the training network, and of other libraries.

All have the same weights. Each row states how close its images are to those of the plain graph, and its share of the
matrix-multiply peak of the same precision, counting the multiplications of direct convolution even if they are saved.

Contenders are processes (contenders/*.py), which report their variants. They take turns, one computes at a time, and
figures are medians. They are printed and written to build/bench/generator-*.json.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contenders.protocol import PRODUCT_SIDES
from numpy.typing import NDArray
from results import ROOT, Row, publish

from progan_service.checks import resolutions_up_to
from progan_service.evaluation.psnr import psnr_db
from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig

import_tensorflow()
import keras  # noqa: E402

from progan_service.export.trained import TrainedGenerator  # noqa: E402
from progan_service.export.weights_file import save_weights  # noqa: E402
from progan_service.model.networks import Generator  # noqa: E402

COMPARED = 8  # images of each contender
PRODUCTS = "matrix_products.py"
REFERENCE = "plain-fp32"  # what the others are compared with
OURS, PEERS = sys.executable, ".venv-peers/bin/python"
WEIGHTS, LATENTS = "weights.safetensors", "latents.npy"


class Entry(NamedTuple):
    library: str
    python: str
    script: str
    variant: str


ENTRIES = [
    Entry("TensorFlow", OURS, PRODUCTS, "fp32"),
    Entry("TensorFlow", OURS, PRODUCTS, "bf16"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", REFERENCE),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "fused-fp32"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "xla-fp32"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "exported-fp32"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "plain-bf16"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "fused-bf16"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "xla-bf16"),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", "exported-bf16"),
    Entry("ONNX Runtime", PEERS, "onnx_runtime.py", "fp32"),
    Entry("OpenVINO", PEERS, "openvino_runtime.py", "fp32"),
    Entry("OpenVINO", PEERS, "openvino_runtime.py", "bf16"),
    Entry("PyTorch", PEERS, "pytorch.py", "eager-fp32"),
    Entry("PyTorch", PEERS, "pytorch.py", "eager-bf16"),
    Entry("PyTorch", PEERS, "pytorch.py", "compiled-fp32"),
    Entry("PyTorch", PEERS, "pytorch.py", "compiled-bf16"),
]


class Contender:
    """The process of an entry on a device, cpu or gpu: ready for its turns, or failed for the reason in `failure`."""

    def __init__(self, entry: Entry, directory: Path, device: str = "cpu") -> None:
        self.entry, self.failure = entry, ""
        self.rates: defaultdict[int, list[float]] = defaultdict(list)  # by the size of the batch
        self.images, self._log = (directory / f"{entry.script}-{entry.variant}.{kind}" for kind in ("npy", "log"))
        script = Path(__file__).parent / "contenders" / entry.script
        command = [entry.python, script, device, entry.variant, directory / WEIGHTS, directory / LATENTS, self.images]
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {})
        with self._log.open("wb") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, bufsize=0, **pipes)
        self.version = self._answer().removeprefix("ready ")
        print(f"{entry.library} {entry.variant}: {self.failure or 'ready'}", file=sys.stderr)

    def take_turn(self, batch: int, seconds: float) -> None:
        self._ask(batch, 0.0)  # warms up
        if answer := self._ask(batch, seconds):
            self.rates[batch].append(float(answer))

    def rate(self, batch: int) -> float:
        """Return images or matrix products per second."""
        return statistics.median(self.rates[batch])

    def end(self) -> None:
        self._process.communicate()

    def _ask(self, batch: int, seconds: float) -> str:
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{batch} {seconds}\n".encode())
        return self._answer()

    def _answer(self) -> str:
        """Return the next line, or "" when there are no more."""
        if not (line := self._process.stdout.readline()):
            self.failure = reason(self._log.read_text()) or f"exit status {self._process.wait()}"
        return line.decode().strip()


def reason(log: str) -> str:
    """Return the line of a log that says why a process ended: the last one that names an error, else the last one."""
    lines = log.strip().split("\n")
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    resolutions = resolutions_up_to(1024)
    parser.add_argument("--resolution", type=int, default=128, choices=resolutions, help="of the network")
    parser.add_argument("--fmap-base", type=int, default=8192, help="of the network; the bundled fruits have 1024")
    parser.add_argument("--fmap-max", type=int, default=512, help="of the network; the bundled fruits have 128")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 1], help="their sizes, a table each")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    options = parser.parse_args()
    entries = [entry for entry in ENTRIES if (ROOT / entry.python).exists()]
    if len(entries) < len(ENTRIES):
        print("other libraries are not installed: `make .venv-peers/ready` installs them", file=sys.stderr)
    network = NetworkConfig(options.resolution, fmap_base=options.fmap_base, fmap_max=options.fmap_max)
    name = f"generator-{network.resolution}x{network.resolution}-fmap-{network.fmap_base}-{network.fmap_max}"
    with tempfile.TemporaryDirectory() as directory:
        flops = write_inputs(Path(directory), network)
        contenders = [Contender(entry, Path(directory)) for entry in entries]
        for _ in range(options.rounds):
            for contender in contenders:
                for batch in options.batches:
                    contender.take_turn(batch, options.seconds)
        for batch in options.batches:
            publish(f"{name}-batch-{batch}", table(contenders, batch, flops))
        for contender in contenders:
            contender.end()


def write_inputs(directory: Path, network: NetworkConfig) -> float:
    """Make untrained weights of the network and latents, the same in every run.

    Return the floating-point operations of an image by definition: two a multiplication with addition.
    """
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    generator, resolution = Generator(network), network.resolution
    for weight in generator.weights:
        if weight.name == "bias":
            weight.assign(random.normal(0.0, 0.1, weight.shape))
    kernel = generator.to_rgb[resolution].kernel
    kernel.assign(kernel / 3)  # so pixels, of deviation 1/3, keep within -1..1
    save_weights(TrainedGenerator(generator, resolution, 1.0, (), {"source": "benchmark"}), directory / WEIGHTS)
    np.save(directory / LATENTS, random.standard_normal((COMPARED, generator.config.latents), np.float32))
    return flops_by_definition(generator, resolution)


def flops_by_definition(generator: Generator, resolution: int) -> float:
    """Return the floating-point operations of the convolutions for one image."""
    blocks = [(r, generator.blocks[r]) for r in resolutions_up_to(resolution)[1:]]
    layers = [
        (4, generator.input_block.conv),
        *((r, layer) for r, block in blocks for layer in (block.conv0, block.conv1)),
    ]
    return sum(2.0 * math.prod(layer.kernel.shape) * r**2 for r, layer in layers)


def table(contenders: list[Contender], batch: int, flops: float, device: str = "cpu") -> list[Row]:
    """Return a row for each contender. `flops` are operations per image."""
    reference = next(contender for contender in contenders if contender.entry.variant == REFERENCE)
    peaks = measured_peaks(contenders, batch, device)
    return [row(contender, batch, reference, flops, peaks) for contender in contenders]


def measured_peaks(contenders: list[Contender], batch: int, device: str) -> dict[str, float]:
    """Return the operations per second of matrix products, by precision."""
    flops = 2.0 * PRODUCT_SIDES[device] ** 3  # two a multiplication with addition
    products = [c for c in contenders if c.entry.script == PRODUCTS and c.rates[batch]]
    return {contender.entry.variant: flops * contender.rate(batch) for contender in products}


def row(contender: Contender, batch: int, reference: Contender, flops: float, peaks: dict[str, float]) -> Row:
    entry, precision = contender.entry, contender.entry.variant.split("-")[-1]
    what = f"{f'{entry.library} {contender.version}'.strip()}, {entry.variant.replace('-', ' ')}"
    if entry.script == PRODUCTS and precision in peaks:
        return Row(f"{what} matrix products", peaks[precision] / 1e9, "GFLOP/s")
    if not contender.rates[batch]:
        return Row(what, 0.0, "images/s", f"failed: {contender.failure}")
    rate, notes = contender.rate(batch), []
    if contender is not reference and reference.rates[batch]:
        notes.append(f"{rate / reference.rate(batch):.2f} times as fast as {REFERENCE.replace('-', ' ')}")
    if precision in peaks:
        notes.append(f"{rate * flops / peaks[precision]:.0%} of the peak")
    if contender is not reference and reference.images.exists():
        notes.append(difference(np.load(contender.images), np.load(reference.images)))
    return Row(what, rate, "images/s", "; ".join(notes))


def difference(images: NDArray[np.uint8], expected: NDArray[np.uint8]) -> str:
    levels = np.abs(images.astype(int) - expected).max()
    return f"largest difference {levels}, {psnr_db(images, expected):.1f} dB"


if __name__ == "__main__":
    main()
