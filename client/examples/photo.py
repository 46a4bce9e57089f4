"""Find the latent of a photograph, and save a walk from it to another image and back, photo.webp.

python photo.py PHOTO
"""

import os
import sys

import numpy as np

from progan_client import Client, save_animation

with Client(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
    found = client.invert(sys.argv[1])
    other = client.generate(seed=1337)
    keys = np.concatenate([found.latents, other.latents])
    frames = client.interpolate(latents=keys, frames_between=30, loop=True)
    save_animation(frames, "photo.webp", fps=24, scale=2)

print(f"photo.webp: from {found} to seed 1337")
