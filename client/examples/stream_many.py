"""Save any number of images as PNG files, in constant memory: python stream_many.py [COUNT]"""

import os
import sys
from pathlib import Path

from progan_client import Client

count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
directory = Path("images")
directory.mkdir(exist_ok=True)

with Client(os.environ.get("PROGAN_TARGET", "localhost:8500")) as client:
    # `bulk` lets the service answer interactive calls first.
    for part in client.stream(count=count, seed=0, encoding="png", bulk=True):
        for seed, file in zip(part.seeds or (), part.files, strict=True):
            (directory / f"{seed:06d}.png").write_bytes(file)

print(f"images: {count} files")
