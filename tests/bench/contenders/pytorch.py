"""PyTorch, channels last; variants eager and compiled, each -fp32, -tf32 or -bf16.

Compiling needs a C++ compiler; freezing the weights, as Inductor can, makes this network slower.
"""

import ctypes
import sys
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from protocol import CPUS, Generate, contend
from torch import nn
from torch.nn import functional
from trained import Weights

Layer = TypeVar("Layer", bound=nn.Module)

SHIFTS = np.eye(4, 3, dtype=np.float32) + np.eye(4, 3, k=-1, dtype=np.float32)  # a kernel, and it moved by one place


class Generator(nn.Module):
    """Latents float32 [N, L] -> images uint8 [N, R, R, C]."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.dense = nn.Parameter(torch.from_numpy(weights.dense()))
        self.bias = nn.Parameter(torch.from_numpy(weights.bias("4x4").reshape(-1, 1, 1)))
        self.layers = nn.ModuleList([convolution(weights.kernel("4x4/conv"), weights.bias("4x4/conv"))])
        for block in weights.blocks:
            self.layers.append(upscaling(weights.kernel(f"{block}/conv0"), weights.bias(f"{block}/conv0")))
            self.layers.append(convolution(weights.kernel(f"{block}/conv1"), weights.bias(f"{block}/conv1")))
        self.to_rgb = convolution(weights.kernel(weights.to_rgb, gain=1.0), weights.bias(weights.to_rgb))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        x = (pixel_norm(latents).to(self.dense.dtype) @ self.dense).unflatten(1, (-1, 4, 4))
        x = activate(x.to(memory_format=torch.channels_last) + self.bias)
        for layer in self.layers:
            x = activate(layer(x))
        images = 127.5 * self.to_rgb(x).float() + 127.5
        return images.round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def convolution(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> nn.Conv2d:
    size, _, inputs, outputs = kernel.shape
    return filled(nn.Conv2d(inputs, outputs, size, padding=size // 2), kernel.transpose(3, 2, 0, 1), bias)


def upscaling(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> nn.ConvTranspose2d:
    """Doubling by repetition and a 3x3 convolution at once."""
    wide = np.einsum("ay,bx,yxio->ioab", SHIFTS, SHIFTS, kernel[::-1, ::-1])
    return filled(nn.ConvTranspose2d(*wide.shape[:2], 4, stride=2, padding=1), wide, bias)


def filled(layer: Layer, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Layer:
    layer.load_state_dict({"weight": torch.from_numpy(np.ascontiguousarray(kernel)), "bias": torch.from_numpy(bias)})
    return layer


def activate(x: torch.Tensor) -> torch.Tensor:
    return pixel_norm(functional.leaky_relu(x, 0.2))


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-8).to(x.dtype)


def keep_freed_memory() -> None:
    """glibc gives large blocks back, to fetch their pages again for the next layer. PyTorch's tuning guide would have
    another allocator; this is what matters of it."""
    m_mmap_max, m_trim_threshold, never = -4, -1, -1  # of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, never)


def prepare_gpu(precision: str) -> None:
    if not torch.cuda.is_available():
        sys.exit("this PyTorch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True  # times the algorithms of each size, as TensorFlow does


def build(device: str, variant: str, weights: Path) -> Generate:
    mode, precision = variant.split("-")
    if device == "gpu":
        prepare_gpu(precision)
    keep_freed_memory()
    torch.set_num_threads(CPUS)
    place = {"cpu": "cpu", "gpu": "cuda"}[device]
    network = Generator(Weights(weights)).eval().to(place, memory_format=torch.channels_last)
    network = network.bfloat16() if precision == "bf16" else network
    run = torch.compile(network, dynamic=False) if mode == "compiled" else network  # each batch size on its own, as XLA

    @torch.inference_mode()
    def generate(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        return run(torch.from_numpy(latents).to(place)).cpu().numpy()

    return generate


if __name__ == "__main__":
    contend(torch.__version__, build)
