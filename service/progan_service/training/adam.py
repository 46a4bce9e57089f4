"""Adam without momentum (beta1 = 0), which trains both networks (paper, appendix A.1).

    v <- beta2 v + (1 - beta2) g^2
    w <- w - learning_rate sqrt(1 - beta2^t) g / (sqrt(v) + 1e-8)

Without momentum there is one slot per weight. An update runs outside of the replicas and changes all their copies, so
an update with gradients that are not finite is skipped on all of them.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

EPSILON = 1e-8


class Adam:
    """The optimizer of one network: `steps` is t, `second_moments` holds v by the path of the weight."""

    def __init__(self, weights: Sequence[keras.Variable], beta2: float, name: str) -> None:
        self.beta2 = beta2
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}/steps")
        self.second_moments = {
            weight.path: tf.Variable(tf.zeros(weight.shape), trainable=False, name=f"{name}/{weight.path}")
            for weight in weights
        }

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables that a checkpoint stores."""
        return [self.steps, *self.second_moments.values()]

    def forget(self) -> None:
        """Set the step count and all moments to zero."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def update(
        self, weights: Sequence[keras.Variable], gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor
    ) -> tf.Tensor:
        """Take one step. Return 0, or 1 if the step was skipped because a gradient is not finite.

        gradients   one per weight, equal on all replicas
        """
        strategy = tf.distribute.get_strategy()
        here = [strategy.experimental_local_results(gradient)[0] for gradient in gradients]
        finite = tf.math.is_finite(tf.linalg.global_norm(here))
        tf.cond(finite, lambda: self._descend(weights, gradients, learning_rate), lambda: None)
        return 1.0 - tf.cast(finite, tf.float32)

    def _descend(
        self, weights: Sequence[keras.Variable], gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor
    ) -> None:
        strategy = tf.distribute.get_strategy()
        strategy.extended.update(self.steps, lambda steps: steps.assign_add(1))
        steps = tf.cast(strategy.experimental_local_results(self.steps)[0], tf.float32)
        rate = learning_rate * tf.sqrt(1.0 - self.beta2**steps)

        def descend(weight: tf.Variable, moment: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> None:
            moment.assign(self.beta2 * moment + (1.0 - self.beta2) * tf.square(gradient))
            weight.assign_sub(rate * gradient / (tf.sqrt(moment) + EPSILON))

        for weight, gradient in zip(weights, gradients, strict=True):
            strategy.extended.update(weight.value, descend, args=(self.second_moments[weight.path], gradient, rate))
