"""Callers that go on calling whatever happens to the servers, and check each image that they get."""

import logging
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field

from progan_client import Client, GeneratedImages

IMAGES_A_CALL, PAUSE_S = 4, 0.1
IMAGES_A_STREAM, READ_S = 30_000, 40.0  # 23 MB, more than gRPC buffers; read for longer than servers drain


@dataclass
class Account:
    """What all callers saw until now."""

    calls: int = 0
    streams: int = 0
    images: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    versions: set[int] = field(default_factory=set)


class Callers:
    """Two threads that call for a few images, again and again, and two that read long streams slowly."""

    def __init__(self, target: str, model: str) -> None:
        self.account = Account()
        self.went_on = 0
        self._target, self._model = target, model
        self._checksums: dict[tuple[str, int], int] = {}  # by digest of the version and seed
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._streams_begun = Counter[int]()
        logging.getLogger("progan_client").addHandler(_Counting(self))
        logging.getLogger("progan_client").setLevel(logging.INFO)
        work = [(self._call_on, 0), (self._call_on, 1), (self._stream_on, 2), (self._stream_on, 3)]
        self._threads = [threading.Thread(target=run, args=(number,), daemon=True) for run, number in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every call and stream come to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def finish_streams(self) -> None:
        """Wait until the streams that run now have ended."""
        before = dict(self._streams_begun)
        while any(self._streams_begun[number] == begun for number, begun in before.items()):
            time.sleep(0.1)

    def _call_on(self, number: int) -> None:
        with Client(self._target) as client:
            first = number * 1_000_000
            while not self._stop.is_set():
                began = time.monotonic()
                seeds = range(first, first + IMAGES_A_CALL)
                try:
                    images = client.generate(seeds=seeds, model=self._model)
                    self._check(images, list(seeds))
                except Exception as error:  # whatever it is, it is a failed call
                    self._fail(error)
                with self._lock:
                    self.account.calls += 1
                    self.account.slowest_s = max(self.account.slowest_s, time.monotonic() - began)
                first += IMAGES_A_CALL
                time.sleep(PAUSE_S)

    def _stream_on(self, number: int) -> None:
        with Client(self._target) as client:
            while not self._stop.is_set():
                self._streams_begun[number] += 1
                expected = 0
                try:
                    for part in client.stream(count=IMAGES_A_STREAM, seed=0, model=self._model):
                        self._check(part, list(range(expected, expected + len(part))))
                        expected += len(part)
                        time.sleep(READ_S * len(part) / IMAGES_A_STREAM)
                    assert expected == IMAGES_A_STREAM, f"a stream ended after {expected} images"
                except Exception as error:
                    self._fail(error)
                with self._lock:
                    self.account.streams += 1

    def _check(self, images: GeneratedImages, seeds: list[int]) -> None:
        """An image of a seed is the same to the bit wherever and whenever a version makes it."""
        assert images.seeds == tuple(seeds), f"seeds {images.seeds} came in place of {seeds}"
        found = {seed: zlib.crc32(pixels.tobytes()) for seed, pixels in zip(seeds, images.pixels, strict=True)}
        with self._lock:
            for seed, checksum in found.items():
                known = self._checksums.setdefault((images.model.digest, seed), checksum)
                assert checksum == known, f"seed {seed} gave two images"
            self.account.images += len(seeds)
            self.account.versions.add(images.model.version)

    def _fail(self, error: Exception) -> None:
        print(f"    failed: {error}", flush=True)
        with self._lock:
            self.account.failures[f"{type(error).__name__}: {error}"] += 1


class _Counting(logging.Handler):
    """Counts what the client logs: streams that went on at another server."""

    def __init__(self, callers: Callers) -> None:
        super().__init__()
        self._callers = callers

    def emit(self, record: logging.LogRecord) -> None:
        self._callers.went_on += "went on" in record.getMessage()
