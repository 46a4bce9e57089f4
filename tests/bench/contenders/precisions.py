"""Precisions of TensorFlow's products: fp32, bf16, and tf32, to which GPUs round the factors of float32 products."""

import tensorflow as tf


def use(precision: str) -> str:
    """Make all products of float32 in this precision from now on, and return the type of features and kernels."""
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    return {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}[precision]
