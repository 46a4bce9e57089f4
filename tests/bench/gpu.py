"""What a GPU makes of everything here: generator, server, training step, and the tests that compare with golden values.

Precisions are fp32, tf32 (GPUs round the factors of float32 products to it) and bf16. Each figure states its share of
the matrix-multiply peak of its precision, measured on the same GPU. Only the first visible GPU computes, for one
process at a time, which has its memory to itself. Figures are medians.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import grpc
import picture
from contenders.protocol import PRODUCT_SIDES
from generator import (
    OURS,
    PRODUCTS,
    REFERENCE,
    ROOT,
    WEIGHTS,
    Contender,
    Entry,
    measured_peaks,
    table,
    write_inputs,
)
from loops import Loop, client_loop
from models import FULL_SIZE, loaded, request_for
from results import Row, medians, publish
from servers import progan

from progan_client.errors import ServiceError
from progan_service.checks import resolutions_up_to
from progan_service.host.tensorflow import import_tensorflow
from progan_service.model.config import NetworkConfig
from progan_service.store.store import ModelStore

import_tensorflow()
import tensorflow as tf  # noqa: E402
from training import rates  # noqa: E402

from progan_service.export.exportable import Exportable  # noqa: E402
from progan_service.export.version import export_version  # noqa: E402
from progan_service.export.weights_file import load_weights  # noqa: E402

NO_GPU = "TensorFlow sees no GPU here, so nothing is measured: `make bench` measures CPUs."

PRECISIONS = ("fp32", "tf32", "bf16")
BATCHES = (1, 4, 16, 64, 256)
ROUNDS = 3
SECONDS = 2.0  # of a turn

PEERS = ".venv-peers-gpu/bin/python"
ENTRIES = [
    *(Entry("TensorFlow", OURS, PRODUCTS, precision) for precision in PRECISIONS),
    Entry("TensorFlow", OURS, "tensorflow_graph.py", REFERENCE),
    *(
        Entry(library, python, script, f"{made}-{precision}")
        for library, python, script, ways in (
            ("TensorFlow", OURS, "tensorflow_graph.py", ("fused", "xla", "exported")),
            ("PyTorch", PEERS, "pytorch.py", ("eager", "compiled")),
        )
        for made in ways
        for precision in PRECISIONS
    ),
]

CALLERS = 32
CALLS = (1, 8)  # images of a call
LARGEST_BATCHES = (16, 256)  # the default of `progan serve`, and one that holds 8 images of each caller

TRAINED_BATCH = 16

GOLDEN_TESTS = ("tests/service/model/test_reference.py", "tests/service/test_bundled.py")


def main() -> None:
    if not (gpu := only_gpu()):
        print(NO_GPU)
        return
    with tempfile.TemporaryDirectory() as directory:
        flops = write_inputs(Path(directory), FULL_SIZE)
        contenders = [measured(entry, Path(directory)) for entry in ENTRIES if installed(entry)]
        for batch in BATCHES:
            publish(f"gpu-generator-batch-{batch}", generator_rows(contenders, batch, flops), gpu)
        peaks = measured_peaks(contenders, BATCHES[0], "gpu")
        store = published(Path(directory))
        publish("gpu-serving", list(serving_rows(store, flops, peaks, best_rates(contenders))), gpu)
    publish("gpu-training", list(training_rows()), gpu)
    golden = [golden_row(precision) for precision in ("fp32", "tf32")]
    publish("gpu-golden", golden, gpu)
    picture.main()
    if any(row.note for row in golden):
        sys.exit("the golden tests failed")


def only_gpu() -> str:
    """Return the name of the first GPU, or "" without one. Leave it to the processes that are started from now on."""
    if not (gpus := tf.config.list_physical_devices("GPU")):
        return ""
    tf.config.set_visible_devices([], "GPU")
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU"))


def environment(precision: str) -> dict[str, str]:
    """Return the variables by which NVIDIA's libraries compute float32 in this precision. TF32 is their default."""
    return {"NVIDIA_TF32_OVERRIDE": "0"} if precision == "fp32" else {}


# The generator


def installed(entry: Entry) -> bool:
    return (ROOT / entry.python).exists()


def measured(entry: Entry, directory: Path) -> Contender:
    """Return a contender after its turns. What it cannot do, such as a batch beyond the memory, has no rate."""
    contender = Contender(entry, directory, "gpu")
    for batch in BATCHES:
        for _ in range(ROUNDS):
            contender.take_turn(batch, SECONDS)
    contender.end()
    return contender


def generator_rows(contenders: list[Contender], batch: int, flops: float) -> list[Row]:
    absent = [entry for entry in ENTRIES if not installed(entry)]
    names = [f"{entry.library}, {entry.variant.replace('-', ' ')}" for entry in absent]
    return [*table(contenders, batch, flops, "gpu"), *(Row(name, 0.0, "images/s", "not installed") for name in names)]


def best_rates(contenders: list[Contender]) -> dict[str, float]:
    """Return the images/s of the exported generator in its best batches, by precision."""
    exported = {c.entry.variant.removeprefix("exported-"): c for c in contenders if "exported-" in c.entry.variant}
    return {p: max(map(c.rate, filled)) for p, c in exported.items() if (filled := [b for b in c.rates if c.rates[b]])}


# The server


def published(directory: Path) -> Path:
    """Make a store with the generator of the contenders, whose golden pictures a CPU makes, and return it."""
    (directory / "store").mkdir()
    store = ModelStore(directory / "store")
    export_version(Exportable.of(load_weights(directory / WEIGHTS), tune=False), store, "full-size", invert=False)
    return store.root


def serving_rows(store: Path, flops: float, peaks: dict[str, float], alone: dict[str, float]) -> Iterator[Row]:
    """Yield a row for each precision, largest batch and size of calls.

    flops   operations per image
    peaks   operations per second of matrix products, by precision
    alone   images/s of the generator without a server, by precision
    """
    servable = loaded(store)
    requests = {images: request_for(servable, images) for images in CALLS}
    for precision, largest in product(PRECISIONS, LARGEST_BATCHES):
        what = f"server, {CALLERS} callers, {precision}, batches up to {largest}"
        try:
            loops = served(store, precision, largest, list(requests.values()))
        except (RuntimeError, ServiceError, grpc.RpcError) as error:
            yield Row(what, 0.0, "images/s", f"failed: {error}")
            continue
        for images, loop in zip(CALLS, loops, strict=True):
            rate, notes = loop.per_s * images, []
            if precision in alone:
                notes.append(f"{rate / alone[precision]:.2f} of the exported generator's best")
            if precision in peaks:
                notes.append(f"{rate * flops / peaks[precision]:.0%} of the peak")
            yield Row(f"{what}, calls of {images}", rate, "images/s", "; ".join(notes))


def served(store: Path, precision: str, largest: int, requests: list[bytes]) -> list[Loop]:
    """Return what callers of a server get, for each of the requests.

    Raises RuntimeError when the server does not serve the version, ServiceError or RpcError when it ends.
    """
    with progan(store, *server_options(precision, largest), environment=environment(precision)) as server:
        return medians([client_loop(server, request, CALLERS, SECONDS) for request in requests] for _ in range(ROUNDS))


def server_options(precision: str, largest: int) -> tuple[str, ...]:
    features = "bfloat16" if precision == "bf16" else "float32"
    return "--precision", features, "--max-batch-size", str(largest)


# The training step


def training_rows() -> Iterator[Row]:
    for resolution, precision in product(resolutions_up_to(FULL_SIZE.resolution)[1:], PRECISIONS):
        yield from step_rows(FULL_SIZE, resolution, precision, PRODUCT_SIDES["gpu"])


def step_rows(network: NetworkConfig, resolution: int, precision: str, side: int) -> list[Row]:
    """Measure a step in a process of its own: its memory is free afterwards, and TF32 is chosen once in a process."""
    kinds = [(precision, True)]
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as processes:
            return processes.submit(rates, network, resolution, TRAINED_BATCH, kinds, side).result()
    except Exception as error:  # one of TensorFlow's, or the process was killed
        reason = str(error).split("\n")[0]
        return [Row(f"{resolution}x{resolution}, {precision} fused", 0.0, "images/s", f"failed: {reason}")]


# The tests that compare with golden values


def golden_row(precision: str) -> Row:
    command = (sys.executable, "-m", "pytest", "-m", "golden", "-W", "default", *GOLDEN_TESTS)
    variables = os.environ | environment(precision)
    tests = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if tests.returncode:
        print(tests.stdout, tests.stderr, file=sys.stderr)
    return tests_row(f"golden tests, {precision}", tests.returncode, tests.stdout.strip() or tests.stderr)


def tests_row(what: str, exit_status: int, output: str) -> Row:
    """Return how many tests passed; the note is empty if all did."""
    *_, summary = output.strip().split("\n")
    passed = re.search(r"(\d+) passed", summary)
    return Row(what, float(passed[1]) if passed else 0.0, "tests passed", f"failed: {summary}" if exit_status else "")


if __name__ == "__main__":
    main()
