"""One step of a stage, on real networks of a few features."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from progan_service.data.dataset import Dataset
from progan_service.model.config import NetworkConfig
from progan_service.training.config import DatasetConfig, RunConfig, TrainingConfig
from progan_service.training.stage import Phase
from progan_service.training.state import TrainingState
from progan_service.training.step import Batch, Step

CONFIG = RunConfig(
    DatasetConfig("faces", 100),
    NetworkConfig(resolution=8, fmap_base=16, fmap_max=4),
    TrainingConfig(seed=5, batch_sizes={4: 4}, ema_halflife_kimg=0.004),  # half-life: one batch
)
STABLE_4 = Phase(4, 1.0, 4, 0.001)
FADING_8 = Phase(8, 0.25, 4, 0.001)
UNMOVED = 1e-30  # a learning rate too small to change a weight


def configured(**training: Any) -> RunConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **training))


def reals(resolution: int, count: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, resolution, resolution, 3), dtype=np.uint8)


def fed(pixels: NDArray[Any], labels: list[int] | None = None, drawn: list[int] | None = None) -> Batch:
    """With labels out of two, given by their numbers, or without."""
    none = tf.zeros([len(pixels), 0])
    one_hot = [none if numbers is None else tf.one_hot(numbers, 2) for numbers in (labels, drawn)]
    return tf.constant(pixels, tf.uint8), one_hot[0], one_hot[1]


@dataclass
class Run:
    """A compiled step and its state; `begin` takes the state back to the start."""

    state: TrainingState
    step: Step
    start: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, config: RunConfig, phase: Phase) -> Self:
        state = TrainingState.fresh(config)
        state.enter(phase)
        return cls(state, Step(state, config, phase), state.arrays())

    def begin(self) -> Self:
        self.state.assign(self.start, Path("start"))
        return self

    def take(
        self,
        pixels: NDArray[Any] | None = None,
        images_shown: int = 0,
        alpha: float = 1.0,
        learning_rate: float = 0.001,
        stop: bool = False,
    ) -> dict[str, float]:
        batch = fed(reals(self.step.stage.resolution) if pixels is None else pixels)
        return numbers(self.step(batch, images_shown, alpha, learning_rate, stop))


@pytest.fixture(scope="module")
def compiled_4() -> Run:
    return Run.of(CONFIG, STABLE_4)


@pytest.fixture(scope="module")
def compiled_8() -> Run:
    return Run.of(CONFIG, FADING_8)


@pytest.fixture
def stable_4(compiled_4: Run) -> Run:
    """At the start of a run: the step of 4x4."""
    return compiled_4.begin()


@pytest.fixture
def fading_8(compiled_8: Run) -> Run:
    """At the start of a run: the step of 8x8 while it fades in."""
    return compiled_8.begin()


def take_step(
    state: TrainingState,
    config: RunConfig,
    phase: Phase,
    pixels: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    state.enter(phase)
    step = Step(state, config, phase)
    batch = fed(reals(phase.resolution) if pixels is None else pixels)
    return numbers(step(batch, 0, phase.alpha, phase.learning_rate))


def numbers(losses: dict[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in losses.items()}


def mean_score(state: TrainingState, pixels: NDArray[Any], phase: Phase) -> float:
    """Of images 0..255 as they are, by the discriminator."""
    images = tf.constant(pixels * (2 / 255) - 1, tf.float32)
    return float(tf.reduce_mean(state.discriminator(images, resolution=phase.resolution, alpha=phase.alpha)[0]))


def arrays(weights: Iterable[keras.Variable]) -> dict[str, NDArray[np.float32]]:
    return {weight.path.split("/", 1)[1]: weight.numpy().copy() for weight in weights}


def changed(before: dict[str, NDArray[np.float32]], after: dict[str, NDArray[np.float32]]) -> set[str]:
    return {name.split("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_a_stage_trains_only_the_layers_it_runs(stable_4: Run) -> None:
    state = stable_4.state
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    stable_4.take()
    assert changed(generator, arrays(state.generator.weights)) == {"4x4", "to_rgb_4x4"}
    assert changed(discriminator, arrays(state.discriminator.weights)) == {"4x4", "from_rgb_4x4"}


def test_a_fade_trains_both_resolutions(fading_8: Run) -> None:
    state = fading_8.state
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    fading_8.take(alpha=0.25)
    assert changed(generator, arrays(state.generator.weights)) == {"4x4", "8x8", "to_rgb_4x4", "to_rgb_8x8"}
    assert changed(discriminator, arrays(state.discriminator.weights)) == {"4x4", "8x8", "from_rgb_4x4", "from_rgb_8x8"}


def test_the_first_step_of_a_weight_is_as_long_as_the_learning_rate(stable_4: Run) -> None:
    networks = (stable_4.state.generator, stable_4.state.discriminator)
    before = [arrays(network.weights)["4x4/conv/kernel"] for network in networks]
    stable_4.take(learning_rate=0.005)
    for network, kernel in zip(networks, before, strict=True):
        moved = np.abs(arrays(network.weights)["4x4/conv/kernel"] - kernel)
        assert (np.median(moved), moved.max()) == pytest.approx((0.005, 0.005), rel=1e-3)


def test_the_average_moves_half_of_the_way_in_its_half_life(stable_4: Run) -> None:
    state = stable_4.state
    before = arrays(state.generator_ema.weights)
    stable_4.take()
    generator, average = arrays(state.generator.weights), arrays(state.generator_ema.weights)
    for name in before:
        np.testing.assert_allclose(average[name], (before[name] + generator[name]) / 2, atol=1e-6)


def test_the_average_is_slower_with_a_longer_half_life() -> None:
    state = TrainingState.fresh(CONFIG)
    before = arrays(state.generator_ema.weights)["4x4/dense/kernel"]
    take_step(state, configured(ema_halflife_kimg=0.008), STABLE_4)  # two batches: 1 - 0.5 ** 0.5 of the way
    generator, average = state.generator.input_block.dense.kernel, state.generator_ema.input_block.dense.kernel
    np.testing.assert_allclose(average, before + (generator - before) * 0.29289322, atol=1e-6)


def test_a_ramp_shortens_the_half_life_at_the_beginning() -> None:
    state = TrainingState.fresh(CONFIG)
    before = arrays(state.generator_ema.weights)["4x4/dense/kernel"]
    take_step(state, configured(ema_halflife_kimg=10, ema_rampup=1), STABLE_4)  # of the 4 images shown: one batch
    generator, average = state.generator.input_block.dense.kernel, state.generator_ema.input_block.dense.kernel
    np.testing.assert_allclose(average, (before + generator) / 2, atol=1e-6)


def test_every_step_draws_latents_of_its_own(stable_4: Run) -> None:
    steps = [stable_4.begin().take(images_shown=images_shown) for images_shown in (0, 4, 0)]
    assert steps[0]["D"] != steps[1]["D"]
    assert steps[0] == steps[2]


def test_the_generator_learns_from_latents_that_the_discriminator_has_not_seen(stable_4: Run) -> None:
    losses = stable_4.take(learning_rate=UNMOVED)
    seen_by_the_discriminator = mean_score(stable_4.state, reals(4), STABLE_4) - losses["distance"]
    assert -losses["G"] != pytest.approx(seen_by_the_discriminator, abs=1e-3)


def test_the_loss_of_the_discriminator_is_what_its_parts_make() -> None:
    losses = take_step(TrainingState.fresh(CONFIG), configured(drift_weight=0), STABLE_4)
    assert losses["D"] == pytest.approx(losses["penalty"] - losses["distance"], rel=1e-5)


def test_reals_fade_like_the_networks(fading_8: Run) -> None:
    # Detail that 2x2 means do not show: at alpha 0.5 the discriminator is to see half of it.
    half_faded = Phase(8, 0.5, 4, UNMOVED)
    coarse = np.random.default_rng(1).integers(50, 200, (4, 4, 4, 3)).repeat(2, axis=1).repeat(2, axis=2)
    detail = np.tile([[[20], [-20]], [[-20], [20]]], (4, 4, 1))

    def distance(pixels: NDArray[np.int64]) -> float:
        return fading_8.take(pixels, alpha=0.5, learning_rate=UNMOVED)["distance"]

    faded, plain = (mean_score(fading_8.state, pixels, half_faded) for pixels in (coarse + detail // 2, coarse))
    assert distance(coarse + detail) - distance(coarse) == pytest.approx(faded - plain, abs=1e-5)
    assert abs(faded - plain) > 1e-3


def test_on_the_canvas_a_slope_halves_with_every_doubling_to_come() -> None:
    # 4x4 of a final 64x64: four doublings.
    config = replace(CONFIG, network=NetworkConfig(64, fmap_base=32, fmap_max=4))
    state = TrainingState.fresh(config)

    def slope(gp_reference: str) -> float:
        training = replace(config.training, gp_reference=gp_reference)
        return take_step(state, replace(config, training=training), replace(STABLE_4, learning_rate=UNMOVED))[
            "penalty_norm"
        ]

    assert slope("canvas") == pytest.approx(slope("native") / 16, rel=1e-5)


def test_an_update_that_is_not_finite_is_left_out_and_counted() -> None:
    overflowing = configured(gp_weight=3e38)
    state = TrainingState.fresh(overflowing)
    generator, discriminator = arrays(state.generator.weights), arrays(state.discriminator.weights)
    losses = take_step(state, overflowing, STABLE_4)
    assert (losses["D_skipped"], losses["G_skipped"]) == (1, 0)
    assert not changed(discriminator, arrays(state.discriminator.weights))
    assert changed(generator, arrays(state.generator.weights))
    assert int(state.discriminator_adam.steps) == 0
    assert int(state.generator_adam.steps) == 1


def test_a_worker_that_asks_to_stop_is_heard_after_the_step(stable_4: Run) -> None:
    assert [stable_4.take(stop=stop)["stop"] for stop in (False, True)] == [0, 1]


# Labels


LABELLED = RunConfig(
    DatasetConfig("faces", 100, label_names=("dark", "bright")),
    NetworkConfig(resolution=8, label_size=2, fmap_base=32, fmap_max=8),
    TrainingConfig(seed=5, batch_sizes={4: 4}, drift_weight=0),
)


@pytest.fixture(scope="module")
def compiled_labelled() -> Run:
    return Run.of(LABELLED, STABLE_4)


@pytest.fixture
def labelled(compiled_labelled: Run) -> Run:
    """At the start of a run with two labels: the step of 4x4."""
    return compiled_labelled.begin()


def test_both_networks_pay_for_labels_that_the_discriminator_does_not_tell(labelled: Run) -> None:
    # A discriminator that always says a quarter for label 0 and three quarters for label 1.
    dense1 = labelled.state.discriminator.output_block.dense1
    dense1.kernel.assign(dense1.kernel * [1.0, 0.0, 0.0])
    dense1.bias.assign([0.0, 0.0, math.log(3)])
    quarter, three_quarters = math.log(4), math.log(4 / 3)

    def losses(labels: list[int], drawn: list[int]) -> dict[str, float]:
        return numbers(labelled.step(fed(reals(4), labels, drawn), 0, 1.0, UNMOVED))

    zeros, ones, mixed = losses([0] * 4, [0] * 4), losses([1] * 4, [1] * 4), losses([0, 1, 1, 1], [1, 0, 0, 0])
    for found, cost in ((zeros, quarter), (ones, three_quarters), (mixed, (quarter + 3 * three_quarters) / 4)):
        # of the reals and of the fakes, which were made with the labels of the reals
        assert found["D"] - found["penalty"] + found["distance"] == pytest.approx(2 * cost, abs=1e-4)
    assert losses([0] * 4, [1] * 4)["D"] == pytest.approx(zeros["D"], abs=1e-5)  # not with those that are drawn


def test_the_generator_pays_for_the_labels_that_are_drawn(labelled: Run) -> None:
    # Neither the generator nor the discriminator's score sees the labels: only what they cost differs.
    dense, dense1 = labelled.state.generator.input_block.dense, labelled.state.discriminator.output_block.dense1
    dense.kernel.assign(tf.concat([dense.kernel[:-2], tf.zeros_like(dense.kernel[-2:])], axis=0))
    dense1.kernel.assign(dense1.kernel * [1.0, 0.0, 0.0])
    dense1.bias.assign([0.0, 0.0, math.log(3)])
    zero, one, of_reals = (
        numbers(labelled.step(fed(reals(4), labels, drawn), 0, 1.0, UNMOVED))["G"]
        for labels, drawn in (([0] * 4, [0] * 4), ([0] * 4, [1] * 4), ([1] * 4, [0] * 4))
    )
    assert zero - one == pytest.approx(math.log(3), abs=1e-4)
    assert zero == pytest.approx(of_reals, abs=1e-5)


def test_both_networks_pay_for_each_attribute_by_itself() -> None:
    run = Run.of(replace(LABELLED, dataset=replace(LABELLED.dataset, label_kind="attributes")), STABLE_4).begin()
    # A discriminator that always gives half to the first attribute, and three quarters to the second one.
    dense1 = run.state.discriminator.output_block.dense1
    dense1.kernel.assign(dense1.kernel * [1.0, 0.0, 0.0])
    dense1.bias.assign([0.0, 0.0, math.log(3)])
    for both in (4, 1):  # so many of four images have both attributes, the others none
        labels = tf.constant([[1.0, 1.0]] * both + [[0.0, 0.0]] * (4 - both))
        found = numbers(run.step((tf.constant(reals(4), tf.uint8), labels, labels), 0, 1.0, UNMOVED))
        cost = math.log(2) + (both * math.log(4 / 3) + (4 - both) * math.log(4)) / 4
        assert found["D"] - found["penalty"] + found["distance"] == pytest.approx(2 * cost, abs=1e-4)


def test_a_discriminator_learns_to_tell_labels_apart(labelled: Run) -> None:
    pixels = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (40, 60, 200, 220)])
    batch = fed(pixels, [0, 0, 1, 1], [0, 1, 0, 1])
    state = labelled.state
    before = state.discriminator.output_block.dense1.kernel.numpy().copy()

    def share_of_the_right_label() -> float:
        logits = state.discriminator(tf.constant(pixels * (2 / 255) - 1, tf.float32), resolution=4)[1]
        return float(tf.reduce_mean(tf.reduce_sum(tf.nn.softmax(logits) * batch[1], axis=-1)))

    for images_shown in range(0, 400, 4):
        labelled.step(batch, images_shown, 1.0, 0.01)
    assert share_of_the_right_label() > 0.8
    assert (np.abs(state.discriminator.output_block.dense1.kernel - before)[:, 1:] > 0.01).mean() > 0.9


# In pieces, and on several devices


PIECES = RunConfig(
    DatasetConfig("faces", 100, label_names=("dark", "bright")),
    NetworkConfig(resolution=8, label_size=2, fmap_base=32, fmap_max=8),
    TrainingConfig(seed=5, batch_sizes={4: 16}, ema_halflife_kimg=0.016),
)
FADING_16 = Phase(8, 0.25, 16, 0.001)
LABELS = [0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1]


@dataclass
class Taken:
    """Three steps while 8x8 fades in, with other alphas and learning rates each."""

    step: Step
    losses: list[dict[str, float]]
    arrays: dict[str, NDArray[Any]]


def take_three(parts: int = 1, **training: Any) -> Taken:
    config = replace(PIECES, training=replace(PIECES.training, **training))
    state = TrainingState.fresh(config)
    state.enter(FADING_16)
    step = Step(state, config, FADING_16, parts)
    batch = fed(reals(8, 16), LABELS, LABELS[::-1])
    schedule = [(0, 0.25, 0.001), (16, 0.5, 0.002), (32, 0.75, 0.0005)]
    losses = [numbers(step(batch, *point)) for point in schedule]
    return Taken(step, losses, state.arrays())


@pytest.fixture(scope="module")
def whole() -> Taken:
    """Every batch of 16 computed in one piece."""
    return take_three()


def assert_same(found: Taken, expected: Taken) -> None:
    for losses, others in zip(found.losses, expected.losses, strict=True):
        assert losses == pytest.approx(others, rel=1e-4, abs=1e-4)
    for name, array in expected.arrays.items():
        if array.dtype == np.float32:
            np.testing.assert_allclose(found.arrays[name], array, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_batch_in_one_piece(whole: Taken, parts: int) -> None:
    assert_same(take_three(parts), whole)


def test_alpha_and_the_learning_rate_vary_without_tracing_again(whole: Taken) -> None:
    assert whole.step._compiled.experimental_get_tracing_count() == 1


def test_the_groups_of_the_deviation_are_seen(whole: Taken) -> None:
    """Else parts could not show that their groups are those of the whole batch: image i in group i modulo 4."""

    def distance(pixels: NDArray[np.uint8]) -> float:
        return float(whole.step(fed(pixels, LABELS, LABELS), 0, 0.25, UNMOVED)["distance"])

    pixels, order = reals(8, 16), np.arange(16)
    pixels[1::4] //= 8
    within, across = order.copy(), order.copy()
    within[[0, 4]], across[[0, 1]] = [4, 0], [1, 0]
    assert distance(pixels[within]) == pytest.approx(distance(pixels), abs=1e-5)
    assert abs(distance(pixels[across]) - distance(pixels)) > 1e-3


def test_a_bfloat16_step_is_the_same_up_to_rounding(whole: Taken) -> None:
    found = take_three(precision="bfloat16")
    for losses, others in zip(found.losses, whole.losses, strict=True):
        assert losses != others
        assert losses == pytest.approx(others, rel=0.1, abs=0.05)
    for name, array in whole.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert array.dtype != np.float32 or np.isfinite(found.arrays[name]).all()


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory, faces: Dataset) -> Path:
    """Where `two_devices.py` left what the same steps gave on one device and on two."""
    out = tmp_path_factory.mktemp("devices")
    training = replace(PIECES.training, learning_rate_ramp_kimg=0.064, mirror=True, ema_rampup=0.5)
    (out / "config.json").write_text(replace(PIECES, training=training).to_json())
    program = Path(__file__).parent / "two_devices.py"
    command = [sys.executable, program, out / "config.json", faces.directory, out]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def test_two_devices_tell_the_losses_of_one(devices: Path) -> None:
    one, two = (json.loads((devices / f"{name}.json").read_text()) for name in ("one", "two"))
    assert len(one) == 3
    for losses, others in zip(two, one, strict=True):
        assert losses == pytest.approx(others, rel=1e-4, abs=1e-4)


def test_two_devices_learn_what_one_does(devices: Path) -> None:
    with np.load(devices / "one.npz") as one, np.load(devices / "two.npz") as two:
        assert sorted(two.files) == sorted(one.files)
        for name in one.files:
            if one[name].dtype == np.float32:
                np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)
            else:
                np.testing.assert_array_equal(two[name], one[name])


def test_two_devices_hear_when_they_are_to_stop(devices: Path) -> None:
    assert [losses["stop"] for losses in json.loads((devices / "two.json").read_text())] == [0, 1, 1]
