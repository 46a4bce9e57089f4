"""Save 16 images as one picture, grid.png."""

import os

from progan_client import Client

with Client(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
    images = client.generate(count=16, seed=1337)

images.grid(scale=2).save("grid.png")
print(f"grid.png: {images}")
