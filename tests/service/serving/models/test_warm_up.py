"""Before a version serves: golden pictures, batch sizes and precision.

The versions here are of one shade: every pixel is 100, or another shade, if one is given, in bfloat16 or by the
algorithms for CPUs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from progan_service.export.exportable import Exportable, Images
from progan_service.export.version import export_version
from progan_service.latents.seeds import latents_from_seeds, seed_range
from progan_service.serving.batching.device import DeviceOutOfMemoryError
from progan_service.serving.batching.sizes import LargestBatch
from progan_service.serving.models import warm_up
from progan_service.serving.models.servable import Servable
from progan_service.serving.models.warm_up import check_golden, load_servable
from progan_service.store.errors import ModelStoreError
from progan_service.store.store import ModelStore

Published = Callable[..., ModelStore]

SIGNATURES = {
    "bfloat16": "generate_uint8_bfloat16",
    "cpu": "generate_uint8_cpu",
    "bfloat16_cpu": "generate_uint8_bfloat16_cpu",
}


def shade(level: int) -> Images:
    return lambda latents, _: tf.fill([tf.shape(latents)[0], 4, 4, 3], level / 127.5 - 1.0)


@pytest.fixture(autouse=True)
def _cpus_stand_in_for_gpus() -> None:
    """Have TensorFlow take a CPU where there is no GPU, whatever ran before in this process."""
    tf.config.set_soft_device_placement(True)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A store with one version, of model `grey`."""

    def publish(**other_shades: int) -> ModelStore:
        store, others = ModelStore(tmp_path), {SIGNATURES[name]: shade(level) for name, level in other_shades.items()}
        export_version(Exportable(shade(100), 4, 4, 3, provenance={"source": "tests"}, others=others), store, "grey")
        return store

    return publish


def served(store: ModelStore, precision: str = "float32", device: str = "") -> tuple[str, int]:
    """Return the precision and the shade in which a version serves."""
    loaded = load_servable(store, "grey", 1, [1, 2], device, precision)
    images = loaded.generate((latents_from_seeds(seed_range(0, 2), 4),))
    assert images.shape == (2, 4, 4, 3)
    return loaded.precision, int(images[1, 3, 3, 2])


def timed(monkeypatch: pytest.MonkeyPatch, times_as_fast: float) -> None:
    """Have bfloat16 measured as so many times as fast as float32."""
    monkeypatch.setattr(warm_up, "_times_as_fast", lambda half, whole, batch_size: times_as_fast)


def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "_times_as_fast", lambda *_: pytest.fail("timed"))


def test_cpus_serve_by_the_algorithms_for_cpus_and_gpus_do_not(published: Published) -> None:
    store = published(cpu=101)
    assert served(store) == served(store, device="CPU:0") == ("float32", 101)
    assert served(store, device="GPU:0") == ("float32", 100)


def test_in_bfloat16_too_cpus_serve_by_the_algorithms_for_cpus(published: Published) -> None:
    store = published(bfloat16=101, bfloat16_cpu=102)
    assert served(store, "bfloat16") == ("bfloat16", 102)
    assert served(store, "bfloat16", device="GPU:0") == ("bfloat16", 101)
    assert store.metadata("grey", 1).bfloat16_psnr_db == 42.11  # of the one that is farther off, by two levels


@pytest.mark.parametrize(("precision", "level"), [("float32", 100), ("bfloat16", 101)])
def test_a_version_serves_in_the_precision_that_is_asked_for(
    published: Published, monkeypatch: pytest.MonkeyPatch, precision: str, level: int
) -> None:
    untimed(monkeypatch)
    assert served(published(bfloat16=101), precision) == (precision, level)


def test_who_asks_for_bfloat16_gets_it_however_good_it_is(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    untimed(monkeypatch)
    assert served(published(bfloat16=150), "bfloat16") == ("bfloat16", 150)


def test_bfloat16_asked_of_a_version_without_it_is_refused(published: Published) -> None:
    with pytest.raises(ModelStoreError) as refusal:
        served(published(), "bfloat16")
    assert str(refusal.value) == (
        "precision bfloat16 needs a version with the signature generate_uint8_bfloat16: export it again, or serve it "
        "with precision float32 or auto"
    )


@pytest.mark.parametrize("other_shades", [{}, {"bfloat16": 103}], ids=str)
def test_auto_stays_with_float32_where_bfloat16_is_missing_or_too_coarse(
    published: Published, monkeypatch: pytest.MonkeyPatch, other_shades: dict[str, int]
) -> None:
    """Three levels of difference are 38.6 dB."""
    untimed(monkeypatch)
    assert served(published(**other_shades), "auto") == ("float32", 100)


@pytest.mark.parametrize(
    ("times_as_fast", "expected"),
    [(0.5, ("float32", 100)), (1.09, ("float32", 100)), (1.1, ("bfloat16", 102)), (3.0, ("bfloat16", 102))],
)
def test_auto_takes_bfloat16_where_it_is_good_and_a_tenth_faster(
    published: Published, monkeypatch: pytest.MonkeyPatch, times_as_fast: float, expected: tuple[str, int]
) -> None:
    """Two levels of difference are 42.1 dB."""
    timed(monkeypatch, times_as_fast)
    assert served(published(bfloat16=102), "auto") == expected


def test_how_many_times_as_fast_is_a_median() -> None:
    seconds = iter([9.0, 1.0, 1.0, 1.0, 0.1])
    one, other = SimpleNamespace(seconds=lambda rows: 0.5), SimpleNamespace(seconds=lambda rows: next(seconds))
    assert warm_up._times_as_fast(one, other, 16) == 2.0


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_golden_pictures_are_checked_in_every_precision(
    published: Published, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    timed(monkeypatch, 3.0)
    with pytest.raises(ModelStoreError, match="seed 0 differs from golden/seed-0.png by 3 levels; 2 are allowed$"):
        served(published(bfloat16=100, cpu=103), precision)


def check_golden_on_a_gpu(store: ModelStore, level: int) -> None:
    """Check the golden pictures of version 1 when they are of another shade."""
    path = store.path("grey", 1)
    for picture in (path / "golden").iterdir():
        Image.new("RGB", (4, 4), (level, level, level)).save(picture)
    check_golden(Servable(path, store.metadata("grey", 1), "GPU:0"), path)


def test_on_gpus_golden_pictures_may_differ_by_eight_levels(published: Published) -> None:
    check_golden_on_a_gpu(published(), 108)


def test_on_gpus_they_may_not_differ_by_nine(published: Published) -> None:
    with pytest.raises(ModelStoreError, match="seed 0 differs from golden/seed-0.png by 9 levels; 8 are allowed$"):
        check_golden_on_a_gpu(published(), 109)


def test_in_bfloat16_golden_seeds_must_come_as_near_as_where_the_version_was_exported(published: Published) -> None:
    """Two levels of difference are 42.1 dB; 3 dB less would do."""
    store = published(bfloat16=102)
    metadata = store.metadata("grey", 1)

    def check(exported_db: float) -> None:
        path = store.path("grey", 1)
        servable = Servable(path, replace(metadata, bfloat16_psnr_db=exported_db))
        check_golden(servable.in_bfloat16(), path)

    check(45.1)
    with pytest.raises(ModelStoreError) as refusal:
        check(45.2)
    assert str(refusal.value).endswith(
        "grey/1: in bfloat16 the golden seeds come within 42.1 dB of their pictures; 42.2 dB are needed, 3 less than "
        "where it was exported"
    )


def test_auto_stays_with_float32_where_bfloat16_does_not_come_as_near(
    published: Published, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a processor that rounds otherwise: the exporter found 45.2 dB, here two levels of difference are 42.1."""
    untimed(monkeypatch)
    store = published(bfloat16=102)
    metadata = replace(store.metadata("grey", 1), bfloat16_psnr_db=45.2)
    monkeypatch.setattr(store, "verify", lambda name, version: metadata)
    assert served(store, "auto") == ("float32", 100)
    assert "42.2 dB are needed, 3 less than where it was exported; so it serves in float32" in caplog.text
    with pytest.raises(ModelStoreError, match="42.2 dB are needed"):
        served(store, "bfloat16")


class Played:
    """A servable whose batches take a known time: seconds by size. Each size that runs is noted."""

    def __init__(self, seconds: dict[int, float], delays: Sequence[float] = ()) -> None:
        self.image_shape = (4, 4, 3)
        self.batch_sizes: tuple[int, ...] = ()
        self.rounds: list[dict[int, float]] = []
        self.on_gpu = True
        self.gains: Iterator[float] = repeat(1.0)  # of two batches in flight
        self.timed: list[int] = []
        self.most_rows = 1000  # that fit into its memory
        self._seconds = seconds
        self._delays = iter(delays)

    def from_seeds(self, seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
        if len(seeds) > self.most_rows:
            raise DeviceOutOfMemoryError
        return np.zeros((len(seeds), 4, 4, 3), np.uint8)

    def largest_batch(self) -> LargestBatch:
        return LargestBatch(self.batch_sizes, self.rounds)

    def seconds_of(self, batches: int, size: int, in_flight: int) -> float:
        if in_flight * size > self.most_rows:
            raise DeviceOutOfMemoryError
        self.timed.append(size)
        return batches * self._seconds[size] / (next(self.gains) if in_flight == 2 else 1.0)

    def seconds(self, size: int) -> float:
        self.timed.append(size)
        return self._seconds[size] + next(self._delays, 0.0)


def warmed(seconds: dict[int, float], delays: Sequence[float] = ()) -> Played:
    played = Played(seconds, delays)
    warm_up.warm_up(cast(Servable, played), list(seconds))
    return played


def test_every_size_is_timed_in_five_rounds_one_after_the_other() -> None:
    played = warmed({1: 0.1, 2: 0.2, 4: 0.4})
    assert played.batch_sizes == (1, 2, 4)
    assert played.timed == [1, 2, 4] * 6  # and once when they first run
    assert played.rounds == [{1: 0.1, 2: 0.2, 4: 0.4}] * 5


def test_a_single_size_needs_no_rounds() -> None:
    assert warmed({1: 0.1}).timed == [1, 1]


def test_timing_ends_after_five_seconds() -> None:
    assert warmed({1: 0.25, 2: 0.5, 4: 0.75, 8: 1.0}).timed == [1, 2, 4, 8] * 3


def test_sizes_that_are_too_long_now_are_warm_all_the_same_and_tried_when_the_machine_is_faster() -> None:
    played = warmed({1: 0.4, 2: 0.8, 4: 1.6, 8: 3.2, 16: 6.4})
    assert played.batch_sizes == (1, 2, 4, 8)
    assert played.timed == [1, 2, 4, 8, 1, 2, 4, 1, 2, 4]
    assert played.rounds == [{1: 0.4, 2: 0.8, 4: 1.6}] * 2


def test_a_stall_leaves_no_size_out() -> None:
    """The first run of a batch of 2 takes 9 s longer, the second one 3 s."""
    played = warmed({1: 0.1, 2: 0.2, 4: 0.4}, delays=[0, 9, 0, 0, 3])
    assert played.rounds == [{1: 0.1, 2: 0.2, 4: 0.4}] * 3


def test_a_large_network_does_not_start_for_minutes() -> None:
    assert warmed({1: 5.0, 2: 10.0, 4: 20.0}).timed == [1, 1]


def test_sizes_that_do_not_fit_into_memory_are_left_out() -> None:
    played = Played({1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    asked = []

    def holds(growth: float) -> bool:
        asked.append(growth)
        return len(asked) < 3

    warm_up.warm_up(cast(Servable, played), [1, 2, 4, 8], holds)
    assert played.batch_sizes == (1, 2, 4)
    assert asked == [2.0, 2.0, 2.0]


def test_sizes_for_which_the_device_has_no_memory_are_left_out() -> None:
    played = Played({1: 0.1, 2: 0.2, 4: 0.4})
    played.most_rows = 2
    warm_up.warm_up(cast(Servable, played), [1, 2, 4])
    assert played.batch_sizes == (1, 2)
    played.most_rows = 0
    with pytest.raises(DeviceOutOfMemoryError):
        warm_up.warm_up(cast(Servable, played), [1, 2, 4])


def in_flight(played: Played, *gains: float, holds: Callable[[float], bool] = lambda growth: True) -> int:
    """The number of batches in flight that is chosen if two make so many times the images/s of one, round by round."""
    played.gains = iter(gains)
    played.timed.clear()
    return warm_up.batches_in_flight(cast(Servable, played), holds)


QUICK = {1: 0.010, 2: 0.015, 4: 0.020}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1.06, 1.3, 1.07, 1.2, 1.05], 2),
        ([1.3, 0.7, 1.3, 1.3, 1.3], 2),  # something else ran in one round
        ([1.04, 1.04, 1.04, 1.04, 1.04], 1),
        ([1.3, 1.0, 1.3, 1.0, 1.3], 1),  # in doubt
        ([0.8, 0.9, 0.8, 0.9, 0.8], 1),
    ],
)
def test_two_batches_are_in_flight_if_that_is_clearly_faster(gains: list[float], expected: int) -> None:
    played = warmed(QUICK)
    assert in_flight(played, *gains) == expected
    assert played.timed == [4] * 10  # the size in use, one and two in flight in turns


def test_cpus_have_one_batch_in_flight_without_a_trial() -> None:
    played = warmed(QUICK)
    played.on_gpu = False
    assert in_flight(played) == 1
    assert played.timed == []


def test_two_batches_are_not_tried_where_they_do_not_fit_into_memory() -> None:
    played = warmed(QUICK)
    assert in_flight(played, holds=lambda growth: growth < 2.0) == 1
    assert played.timed == []
    played.most_rows = 7
    assert in_flight(played) == 1


def test_batches_that_take_long_stay_alone() -> None:
    """A trial of several rounds would take too long, and copies are a small part of such a batch."""
    assert in_flight(warmed({1: 0.4}), 1.5, 1.5, 1.5, 1.5, 1.5) == 1
