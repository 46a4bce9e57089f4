"""Save a walk that passes three images and returns to the first, walk.webp."""

import os

from progan_client import Client, save_animation

with Client(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
    frames = client.interpolate(seeds=[1, 2, 3], frames_between=30, loop=True)
    count = save_animation(frames, "walk.webp", fps=24, scale=2)

print(f"walk.webp: {count} frames")
