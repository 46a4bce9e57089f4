"""Run `progan` commands where disks are full, read-only or closed to the user. How each ended is in `endings.json`.

    python faulty_places.py DIRECTORY      commands, a JSON list of lists of arguments, come on standard input

It gets mounts of its own in a user namespace, and gives up the rights of root: what has no permission stays closed.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLACES = """
set -e
cd "$1"
mkdir full small readonly
mount -t tmpfs -o size=2m tmpfs full
mount -t tmpfs -o size=64k tmpfs small
mount -t tmpfs -o size=2m tmpfs readonly
cp -r store full/store
cp -r store readonly/store
cat /dev/zero > full/filler 2>/dev/null || true
mount -o remount,ro readonly
chmod -R a-w closed
chmod 000 unreadable/*
exec setpriv --bounding-set=-all --inh-caps=-all "$2" "$3" "$1" inside
"""


def outside(directory: str) -> int:
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", PLACES, "sh", directory]
    return subprocess.run([*command, sys.executable, __file__]).returncode


def inside(directory: Path) -> None:
    from progan_service.commands import parser

    def ended(arguments: list[str]) -> tuple[int, str]:
        sys.argv = ["progan", *arguments]
        with tempfile.TemporaryFile("w+", dir=directory) as errors:
            really = os.dup(2)
            os.dup2(errors.fileno(), 2)
            try:
                parser.main()
            except SystemExit as end:
                code = end.code
            finally:
                sys.stderr.flush()
                os.dup2(really, 2)
            errors.seek(0)
            assert isinstance(code, int)
            return code, errors.read()

    endings = [ended(arguments) for arguments in json.load(sys.stdin)]
    (directory / "endings.json").write_text(json.dumps(endings))


if __name__ == "__main__":
    inside(Path(sys.argv[1])) if sys.argv[2:] else sys.exit(outside(sys.argv[1]))
