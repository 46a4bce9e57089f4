"""Downloads of TF Hub modules by `hub.resolve`, in a process that is watched and ended at a limit.

tensorflow-hub checks nothing that it downloads, and trusts whatever lies in its cache. So it gets an empty cache of its
own and runs in a process of its own: `python -m progan_service.sources.tfhub.download`.
"""

import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError

from progan_service.sources.tfhub.limits import BY_HAND, HubModuleError, Limits, Progress, check_limits

_INSTALL = "install it with the extra `hub`: pip install 'progan-service[hub]'"
_POLL_S = 0.1


def download(handle: str, cache: Path, limits: Limits, progress: Progress) -> Path:
    """Download a module into the directory `cache`, and return the directory of its files."""
    if find_spec("tensorflow_hub") is None:
        raise HubModuleError(f"{handle}: tensorflow-hub is not there, which finds handles; {_INSTALL}")
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, handle, str(limits.total_bytes)]
    answer = run_watched(handle, command, cache, limits, progress)
    try:
        outcome = json.loads(answer)
    except ValueError:
        raise HubModuleError(
            f"{handle}: the download ended without a word, for lack of memory perhaps; try again"
        ) from None
    if "problem" in outcome:
        raise HubModuleError(f"{handle}: {outcome['problem']}")
    return Path(outcome["path"])


def run_watched(name: str, command: list[str], cache: Path, limits: Limits, progress: Progress) -> str:
    """Run a command that fills the directory `cache`, which is its cache of tensorflow-hub. Return its output.

    Ends the command and raises HubModuleError when the directory passes a limit or does not grow for too long.
    """
    environment = {variable: value for variable, value in os.environ.items() if not variable.startswith("TFHUB_")}
    environment |= {"TFHUB_CACHE_DIR": str(cache), "TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            _watch(name, child, cache, limits, progress)
            return child.communicate()[0]
        finally:
            child.kill()


def _watch(name: str, child: subprocess.Popen[str], cache: Path, limits: Limits, progress: Progress) -> None:
    """Wait until the child has ended. Raises HubModuleError as soon as it passes a limit."""
    size, grown_at, ended = 0, time.monotonic(), False
    while not ended:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_POLL_S)
            ended = True
        count, size_now = _measure(cache)
        check_limits(name, count, size_now, limits)
        if size_now != size:
            size, grown_at = size_now, time.monotonic()
            progress("downloading", size, 0)
        elif time.monotonic() - grown_at > limits.idle_s and not ended:
            raise HubModuleError(f"{name}: nothing came for {limits.idle_s:g} s; try again later, or {BY_HAND}")


def _measure(directory: Path) -> tuple[int, int]:
    """Return the number of files and directories, and their size in bytes. Skip files that vanish meanwhile."""
    count = size = 0
    for folder, folders, files in os.walk(directory):
        count += len(folders) + len(files)
        for file in files:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, file)).st_size
    return count, size


def resolve(handle: str, most_bytes: int) -> dict[str, str]:
    """Run `hub.resolve`. Return {"path": directory of the module} or {"problem": what failed and what to do}.

    Run it in a process of its own, which cannot write a file of more than `most_bytes` afterwards.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        import tensorflow_hub

        return {"path": str(tensorflow_hub.resolve(handle))}
    except Exception as error:  # of urllib, ssl, tarfile, TensorFlow or hub itself
        return {"problem": _problem(error, most_bytes)}


def _problem(error: Exception, most_bytes: int) -> str:
    text = str(error).partition("\n")[0]
    match error:
        case ImportError():
            return f"tensorflow-hub cannot be imported ({text}); {_INSTALL}"
        case HTTPError(code=401 | 403):
            return (
                f"the server answers {error.code} {error.reason}, it does not give this module to programs; {BY_HAND}"
            )
        case HTTPError(code=404 | 410):
            return f"the server answers {error.code} {error.reason}; check owner, name and version of the model"
        case HTTPError():
            reason = str(error.reason).partition("\n")[0]
            return f"the server answers {error.code} {reason}; try again later, or {BY_HAND}"
        case URLError(reason=socket.gaierror()):
            return f"no such host, or no network here; check the handle, or {BY_HAND}"
        case URLError(reason=ConnectionRefusedError()):
            return f"the server refuses the connection; try again later, or {BY_HAND}"
        case URLError(reason=ssl.SSLCertVerificationError() as reason):
            return f"the server cannot prove who it is ({reason.verify_message}); mind a proxy, or {BY_HAND}"
        case URLError():
            return f"the server cannot be reached ({error.reason}); try again later, or {BY_HAND}"
        case ConnectionError():
            return f"the connection broke off ({text}); try again"
        case OSError(__context__=tarfile.ReadError(args=("unexpected end of data" | "invalid compressed data",))):
            return "the archive breaks off or is damaged; try again"
        case OSError(__context__=tarfile.ReadError()):
            return f"what came is no archive but a web page perhaps, of a proxy or to log in; {BY_HAND}"
        case ValueError() if text.startswith("Unexpected object type"):
            return "the archive holds a link or a device; a module has files only"
        case ValueError() if text.startswith("Relative path"):
            return "the archive names a file outside of the module; do not trust where it came from"
    if text.endswith("File too large"):
        return f"a file of it takes more than {most_bytes} bytes unpacked, the most that a module may have"
    return f"the download failed ({type(error).__name__}: {text}); try again, or {BY_HAND}"


if __name__ == "__main__":
    print(json.dumps(resolve(sys.argv[1], int(sys.argv[2]))))
