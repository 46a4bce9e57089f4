"""TensorFlow; variants, each -fp32, -tf32 or -bf16: plain: the network as the paper draws it; fused: its upscaling
within its convolutions, as it is trained; xla: that, compiled; exported: as it is published and served."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from protocol import Generate, contend

from progan_service.host.tensorflow import import_tensorflow
from progan_service.store.store import ModelStore

import_tensorflow()
import tensorflow as tf  # noqa: E402
from precisions import use  # noqa: E402

from progan_service.export.exportable import Exportable  # noqa: E402
from progan_service.export.trained import TrainedGenerator  # noqa: E402
from progan_service.export.version import export_version  # noqa: E402
from progan_service.export.weights_file import load_weights  # noqa: E402
from progan_service.model.networks import Generator  # noqa: E402
from progan_service.model.pixels import to_uint8  # noqa: E402
from progan_service.serving.models.servable import Servable  # noqa: E402


def build(device: str, variant: str, weights: Path) -> Generate:
    made, precision = variant.split("-")
    trained, activations = load_weights(weights), use(precision)
    return exported(trained, device, activations) if made == "exported" else trainable(trained, made, activations)


def trainable(trained: TrainedGenerator, made: str, activations: str) -> Generate:
    generator = Generator(trained.generator.config, fused=made != "plain", activations=activations)
    generator.set_weights(trained.generator.get_weights())

    @tf.function(jit_compile=made == "xla")
    def images(latents: tf.Tensor) -> tf.Tensor:
        return to_uint8(generator(latents, resolution=trained.resolution))

    def generate(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        return images(tf.constant(latents)).numpy()

    return generate


def exported(trained: TrainedGenerator, device: str, activations: str) -> Generate:
    with tempfile.TemporaryDirectory() as directory:
        store = ModelStore(Path(directory))
        version = export_version(Exportable.of(trained, tune=device == "cpu"), store, "contender", invert=False)
        place = {"cpu": "", "gpu": "GPU:0"}[device]
        servable = Servable(store.path("contender", version), store.metadata("contender", version), place)
    servable = servable.in_bfloat16() if activations == "bfloat16" else servable
    return lambda latents: servable.generate((latents,))


if __name__ == "__main__":
    contend(tf.__version__, build)
