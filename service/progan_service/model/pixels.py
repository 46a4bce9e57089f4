"""Conversions between the range -1..1 of the networks and the ranges of pixels."""

import tensorflow as tf


def from_uint8(pixels: tf.Tensor) -> tf.Tensor:
    """Convert uint8 0..255 to float32 -1..1."""
    return tf.cast(pixels, tf.float32) * (2.0 / 255.0) - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Convert nominal -1..1 to uint8 0..255, rounded and clipped."""
    return tf.cast(tf.clip_by_value(tf.round(127.5 * images + 127.5), 0.0, 255.0), tf.uint8)


def to_unit_range(images: tf.Tensor) -> tf.Tensor:
    """Convert nominal -1..1 to float32 0..1, clipped."""
    return tf.clip_by_value((images + 1.0) / 2.0, 0.0, 1.0)
