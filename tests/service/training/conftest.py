"""What the tests of training share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Scalars = Callable[[Path], dict[str, dict[int, float]]]


@pytest.fixture(scope="session")
def scalars_of() -> Scalars:
    """Reads the TensorBoard scalars of a run directory: name -> images shown -> value."""
    import tensorflow as tf

    def read(run: Path) -> dict[str, dict[int, float]]:
        scalars: dict[str, dict[int, float]] = {}
        for events in sorted((run / "tensorboard").iterdir()):
            for record in tf.data.TFRecordDataset(str(events)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "images":
                        continue
                    scalars.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
        return scalars

    return read


@pytest.fixture
def signals() -> Iterator[None]:
    """Handled as before, once `progan train` was run in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
