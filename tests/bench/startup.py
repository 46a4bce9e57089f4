"""Seconds from `progan serve` to ready, beside a script that imports TensorFlow, loads the same model and calls it.

The two take turns, and figures are medians.
"""

import subprocess
import sys
import time
from typing import NamedTuple

from results import Row, medians, publish
from servers import memory_mib, progan

from progan_service.serving.config import BatchingConfig
from progan_service.store.bundled import BUNDLED_STORE
from progan_service.store.store import ModelStore

ROUNDS = 3
BARE = """
import sys
import tensorflow as tf
path, latent_size, *batch_sizes = sys.argv[1:]
generate = tf.saved_model.load(path).signatures["generate_uint8"]
for size in batch_sizes:
    generate(latents=tf.zeros([int(size), int(latent_size)]))["images"].numpy()
print("ready", flush=True)
sys.stdin.read()
"""


class Start(NamedTuple):
    """The time until ready in seconds, and the memory by then in MiB: resident and at its peak."""

    seconds: float
    resident_mib: float
    peak_mib: float


def main() -> None:
    bare_start, served_start = medians((bare(), served()) for _ in range(ROUNDS))
    ratio = f"{served_start.seconds / bare_start.seconds:.2f} times the bare script"
    rows = [Row("bare script", bare_start.seconds, "s"), Row("progan serve", served_start.seconds, "s", ratio)]
    for what, start in (("bare script", bare_start), ("progan serve", served_start)):
        rows += [Row(f"{what}, resident", start.resident_mib, "MiB"), Row(f"{what}, peak", start.peak_mib, "MiB")]
    publish("startup", rows)


def bare() -> Start:
    store = ModelStore(BUNDLED_STORE)
    [name] = store.models()
    version = store.versions(name)[0]
    sizes = (store.metadata(name, version).latent_size, *BatchingConfig().allowed_batch_sizes)
    command = [sys.executable, "-c", BARE, str(store.path(name, version)), *map(str, sizes)]
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        start = Start(time.monotonic() - started, *memory_mib(process.pid))
        process.communicate()
    return start


def served() -> Start:
    started = time.monotonic()
    with progan() as server:
        return Start(time.monotonic() - started, *memory_mib(server.pid))


if __name__ == "__main__":
    main()
