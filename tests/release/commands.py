"""Runs every command of an installed `progan` on tiny data, and serves a call: `python commands.py PROGAN`.

It needs nothing but the standard library, so that what is installed is all there is.
"""

import http.client
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TINY = ["--fmap-base", "32", "--fmap-max", "8", "--batch-sizes", "8", "--tick-kimg", "0.016"]
SHORT = ["--stable-kimg", "0.016", "--fade-kimg", "0.008", "--total-kimg", "0.032"]


def commands(here: Path) -> list[list[str]]:
    """All commands, each as a user would go on from the last."""
    data, run, store, weights = (str(here / name) for name in ("faces", "run", "store", "faces.safetensors"))
    return [
        ["--version"],
        ["presets"],
        ["completion", "bash"],
        ["dataset", "demo", data, "--resolution", "8", "--count", "48"],
        ["dataset", "verify", data],
        ["train", "--data", data, "--run", run, *TINY, *SHORT],
        ["runs", str(here)],
        ["plot", run, "-o", str(here / "curves.png")],
        ["timelapse", run, "-o", str(here / "time.gif")],
        ["grid", run, "-o", str(here / "grid.png")],
        ["walk", run, "-o", str(here / "walk.gif"), "--seeds", "1,2", "--frames", "4"],
        ["evaluate", run, "--data", data, "--images", "32"],
        ["weights", run, weights],
        ["export", run, "--store", store, "--name", "faces"],
        [
            "export",
            weights,
            "--store",
            store,
            "--name",
            "faces",
            "--no-serve",
            "--version-label",
            "canary",
            "--no-invert",
        ],
        ["models", "--store", store],
        ["models", "pin", "faces", "5", "--store", store],
        ["models", "prune", "--keep", "1", "--store", store],
        ["directions", "discover", "--model", "faces", "--store", store, "--count", "1", "--samples", "100"],
    ]


def serve(progan: str, store: Path) -> bytes:
    """Start a server, and return an image of it."""
    command = [progan, "serve", "--store", str(store), "--port", "0", "--http-port", "0", "--lame-duck-s", "0"]
    with subprocess.Popen([*command, "--log-format", "text"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = iter(process.stdout)
        listening = next(line for line in lines if "listening" in line)
        next(line for line in lines if "ready" in line)
        [port] = re.findall(r"HTTP 127\.0\.0\.1:(\d+)", listening)
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
        connection.request("GET", "/v1/images/faces/1337.png")
        reply = connection.getresponse()
        image = reply.read()
        assert reply.status == 200, image
        process.terminate()
        assert process.wait() == 0
    return image


def main(progan: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        for arguments in commands(here):
            ran = subprocess.run([progan, *arguments], capture_output=True, text=True)
            print(f"{ran.returncode}  progan {' '.join(arguments).replace(f'{here}/', '')}", flush=True)
            if ran.returncode:
                sys.exit(ran.stderr)
        assert serve(progan, here / "store").startswith(b"\x89PNG")
        print("0  progan serve, and a PNG of it")


if __name__ == "__main__":
    main(*sys.argv[1:])
