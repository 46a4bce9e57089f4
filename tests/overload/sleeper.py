"""A model that takes a known time for a batch of any size, without a processor, and draws grey."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from progan_service.store.metadata import ModelMetadata
from progan_service.store.store import ModelStore


def publish_sleeper(root: Path, batch_s: float, resolution: int = 4) -> None:
    """Publish it as the model `sleeper` of the store at `root`."""
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops.testing import sleep  # TensorFlow has no other sleep in a graph

    nap = int(batch_s * 1e6 / 2)  # slept twice: before the only element and before the end

    def generate(latents: Any) -> dict[str, Any]:
        zero = tf.data.Dataset.range(1).apply(sleep(nap)).reduce(tf.constant(0, tf.int64), lambda a, b: a + b)
        shade = tf.cast(latents[:, :1, None, None] * 0.0 + tf.cast(zero, tf.float32) + 128.0, tf.uint8)
        return {"images": tf.tile(shade, [1, resolution, resolution, 3])}

    latents = tf.TensorSpec([None, 4], tf.float32, name="latents")
    signature = tf.function(generate).get_concrete_function(latents)

    def write(directory: Path) -> ModelMetadata:
        tf.saved_model.save(tf.Module(), str(directory), signatures={"generate_uint8": signature})
        return ModelMetadata(4, resolution, 3, 0, (), {"source": "tests"}, {})

    ModelStore(root).publish("sleeper", write)


@contextmanager
def sleeper_store(batch_s: float) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as root:
        publish_sleeper(Path(root), batch_s)
        yield Path(root)
