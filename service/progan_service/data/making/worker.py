"""A process that decodes pictures, so that all cores do: Pillow and NumPy hold Python's lock for most of a small one.

    python -m progan_service.data.making.worker CONVERSION

CONVERSION is the fields of a `Conversion` as JSON. The process reads requests from standard input and writes replies to
standard output, until its input ends. Each is a number of one byte, a length of four bytes, and that many bytes.

    request   CHECK or RECORDS, and the content of a picture
    reply     DONE and what a `Conversion` returns, REFUSED and the reason in UTF-8, or TOO_SMALL and the size as SIZE
"""

import json
import os
import struct
import sys
from typing import IO

from progan_service.data.making.conversion import Conversion, TooSmallError
from progan_service.decoding.errors import PictureError

CHECK, RECORDS = 0, 1
DONE, REFUSED, TOO_SMALL = 0, 1, 2
SIZE = struct.Struct("<II")  # width and height

_HEAD = struct.Struct("<BI")


def main(fields: str) -> None:
    conversion = Conversion(**json.loads(fields))
    tasks = {CHECK: conversion.check, RECORDS: conversion.records}
    replies = os.fdopen(os.dup(1), "wb")
    sys.stderr = os.fdopen(os.dup(2), "w")
    for stream in (1, 2):  # what the libraries of decoders print is neither a reply nor for a user
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    while request := receive(sys.stdin.buffer):
        task, content = request
        try:
            send(replies, DONE, tasks[task](content))
        except TooSmallError as error:
            send(replies, TOO_SMALL, SIZE.pack(*error.size))
        except PictureError as error:
            send(replies, REFUSED, str(error).encode("utf-8", "backslashreplace"))


def send(stream: IO[bytes], number: int, content: bytes) -> None:
    stream.write(_HEAD.pack(number, len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[int, bytes] | None:
    """Return the next number and content, or None at the end of the stream."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    number, size = _HEAD.unpack(head)
    content = stream.read(size)
    return (number, content) if len(content) == size else None


if __name__ == "__main__":
    main(*sys.argv[1:])
