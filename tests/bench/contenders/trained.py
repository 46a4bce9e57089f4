"""A weights file as other libraries take it: of a finished generator without labels, equalized scales folded in."""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Array = NDArray[np.float32]

SQRT2 = math.sqrt(2.0)


class Weights:
    """Layers are named by their paths, such as "8x8/conv0"; kernels are [height, width, in, out]."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="numpy") as file:
            self._arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            self.resolution: int = json.loads(file.metadata()["progan"])["resolution"]
        self.blocks = [f"{2**r}x{2**r}" for r in range(3, self.resolution.bit_length())]
        self.to_rgb = f"to_rgb_{self.resolution}x{self.resolution}"

    def bias(self, layer: str) -> Array:
        return self._arrays[f"{layer}/bias"]

    def kernel(self, layer: str, gain: float = SQRT2) -> Array:
        kernel = self._arrays[f"{layer}/kernel"]
        return kernel * np.float32(gain / math.sqrt(math.prod(kernel.shape[:-1])))

    def dense(self) -> Array:
        """[L, C * 4 * 4]: the first features, channels first."""
        kernel = self.kernel("4x4/dense", gain=SQRT2 / 4)
        return np.ascontiguousarray(kernel.reshape(len(kernel), 16, -1).swapaxes(1, 2)).reshape(kernel.shape)
