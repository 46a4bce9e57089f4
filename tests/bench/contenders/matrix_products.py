"""The peak: products of two matrices, counted like images; variants fp32, tf32 and bf16."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from protocol import PRODUCT_SIDES, Generate, contend

from progan_service.host.tensorflow import import_tensorflow

import_tensorflow()
import tensorflow as tf  # noqa: E402
from precisions import use  # noqa: E402


def build(device: str, variant: str, weights: Path) -> Generate:
    matrix = tf.cast(tf.random.normal([PRODUCT_SIDES[device]] * 2), use(variant))

    @tf.function
    def corner() -> tf.Tensor:
        return tf.cast(tf.matmul(matrix, matrix)[:1, :1], tf.uint8)

    def generate(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        return corner().numpy()

    return generate


if __name__ == "__main__":
    contend(tf.__version__, build)
