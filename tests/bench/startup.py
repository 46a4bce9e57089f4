"""From `progan serve` to ready, beside a bare script that imports TensorFlow and loads and calls the same model.

The two take turns; medians and their ratio are printed.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from progan_client import Client
from progan_service.cli import BUNDLED_STORE
from progan_service.config import BatchingConfig
from progan_service.model_store import ModelStore

ROUNDS = 3
BARE = """
import sys
import tensorflow as tf
path, latent_size, *batch_sizes = sys.argv[1:]
generate = tf.saved_model.load(path).signatures["generate_uint8"]
for size in batch_sizes:
    generate(latents=tf.zeros([int(size), int(latent_size)]))["images"].numpy()
"""


def bare_s(path: Path, latent_size: int) -> float:
    started = time.monotonic()
    sizes = map(str, BatchingConfig().allowed_batch_sizes)
    command = [sys.executable, "-c", BARE, str(path), str(latent_size), *sizes]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def served_s() -> float:
    started = time.monotonic()
    progan = Path(sys.executable).with_name("progan")
    command = [str(progan), "serve", "--port", "0", "--http-port", "0", "--lame-duck-s", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        listening = next(line for line in process.stdout if "listening: " in line)
        target = listening.split("gRPC ")[1].split(",")[0]
        with Client(target) as client:
            client.wait_until_ready(timeout_s=120)
        elapsed = time.monotonic() - started
        process.terminate()
        process.communicate()
    return elapsed


def main() -> None:
    store = ModelStore(BUNDLED_STORE)
    [name] = store.models()
    version = store.versions(name)[0]
    path, latent_size = store.path(name, version), store.metadata(name, version).latent_size
    times = [(bare_s(path, latent_size), served_s()) for _ in range(ROUNDS)]
    bare, served = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"start to ready: bare script {bare:.1f} s, progan serve {served:.1f} s, ratio {served / bare:.2f}")


if __name__ == "__main__":
    main()
