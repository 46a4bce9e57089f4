"""Seconds from `progan serve` to ready, beside a script that imports TensorFlow, loads the same models and calls them.

The two take turns, and figures are medians.
"""

import json
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
import json
import sys
import tensorflow as tf
models, batch_sizes = map(json.loads, sys.argv[1:])
kept = []
for path, latent_size in models:
    generate = tf.saved_model.load(path).signatures["generate_uint8"]
    kept.append(generate)
    for size in batch_sizes:
        generate(latents=tf.zeros([size, latent_size]))["images"].numpy()
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
    served = [(name, store.serving(name)) for name in store.models()]
    models = [(str(store.path(*each)), store.metadata(*each).latent_size) for each in served]
    command = [sys.executable, "-c", BARE, json.dumps(models), json.dumps(BatchingConfig().allowed_batch_sizes)]
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
