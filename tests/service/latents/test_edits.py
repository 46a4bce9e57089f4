"""Latents moved along directions: the literal answers, what is reversible, and what does not matter."""

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.edits import Moves, TooFarError, moved_within, without
from progan_service.latents.seeds import latents_from_seeds, seed_range

LATENTS = latents_from_seeds(seed_range(0, 8), 128)


def moves(*edits: tuple[NDArray[np.float64], float], to: bool = False) -> Moves:
    directions, amounts = zip(*edits, strict=True)
    return Moves(np.stack(directions), np.array(amounts), np.full(len(edits), to))


def unit(seed: int, size: int = 128) -> NDArray[np.float64]:
    vector = np.random.default_rng(seed).standard_normal(size)
    return np.asarray(vector / np.linalg.norm(vector))


@pytest.mark.parametrize(
    ("amount", "to", "answer"),
    [
        (1, False, [3.5, 1.45774, 1.45774, 2.91548]),
        (-1, False, [-1.5, 1.94722, 1.94722, 3.89444]),
        (0, True, [0, 2.04124, 2.04124, 4.08248]),
    ],
)
def test_the_examples_of_the_contract(amount: float, to: bool, answer: list[float]) -> None:
    latent = np.array([[1, 2, 2, 4]], np.float32)
    (moved,) = moves((np.array([1.0, 0, 0, 0]), amount), to=to).apply(latent)
    np.testing.assert_allclose(moved, answer, atol=1e-5)
    assert np.linalg.norm(moved) == pytest.approx(5)


def test_an_edit_that_needs_nearly_the_whole_length_is_refused() -> None:
    latents = np.array([[4, 2, 2, 1], [1, 2, 2, 4]], np.float32)
    with pytest.raises(TooFarError) as caught:
        moves((np.array([0, 0, 0, 1.0]), 0.8)).apply(latents)
    assert caught.value.row == 1
    assert caught.value.of(7) == "need 1.20 of the length of latent 7, and at most 0.95 is allowed"


def test_a_latent_that_has_nothing_but_its_direction_cannot_be_moved() -> None:
    with pytest.raises(TooFarError):
        moves((np.array([0, 1.0]), -1)).apply(np.array([[0, 3]], np.float32))


def test_the_opposite_edit_moves_back() -> None:
    forth, back = moves((unit(1), 3), (unit(2), -2)), moves((unit(1), -3), (unit(2), 2))
    np.testing.assert_allclose(back.apply(forth.apply(LATENTS)), LATENTS, atol=1e-5)


def test_every_latent_keeps_its_length() -> None:
    moved = moves((unit(1), 3), (unit(2), -2)).apply(LATENTS)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(LATENTS, axis=1), rtol=1e-6)


def test_a_unit_is_one_standard_deviation_along_any_direction() -> None:
    many = latents_from_seeds(seed_range(0, 2000), 128)
    shares = many @ unit(1) / (np.linalg.norm(many, axis=1) / 128**0.5)
    assert shares.std() == pytest.approx(1, abs=0.05)
    moved = moves((unit(1), 1)).apply(LATENTS)
    step = (moved - LATENTS) @ unit(1) / (np.linalg.norm(LATENTS, axis=1) / 128**0.5)
    np.testing.assert_allclose(step, 1, rtol=1e-5)


def test_both_directions_move_by_their_amounts_though_they_are_no_right_angle() -> None:
    near = unit(1) + 0.7 * unit(2)
    near /= np.linalg.norm(near)
    moved = moves((unit(1), 1), (near, -0.5)).apply(LATENTS)
    deviation = np.linalg.norm(LATENTS, axis=1) / 128**0.5
    np.testing.assert_allclose((moved - LATENTS) @ unit(1) / deviation, 1, rtol=1e-4)
    np.testing.assert_allclose((moved - LATENTS) @ near / deviation, -0.5, rtol=1e-4)


def test_an_offset_of_zero_changes_no_bit() -> None:
    assert moves((unit(1), 0)).apply(LATENTS) is LATENTS


def test_a_latent_is_moved_to_the_same_bits_alone_and_among_others() -> None:
    edits = moves((unit(1), 1.5), (unit(2), -2), (unit(3), 0.5))
    together = edits.apply(LATENTS)
    for row in range(len(LATENTS)):
        np.testing.assert_array_equal(edits.apply(LATENTS[row : row + 1]), together[row : row + 1])


def test_what_is_held_does_not_change() -> None:
    held = unit(2) + 0.5 * unit(1)
    held /= np.linalg.norm(held)
    part, left = without(unit(1), held[None])
    assert left == pytest.approx(np.sqrt(1 - (unit(1) @ held) ** 2))
    assert part @ held == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(part) == pytest.approx(1)


def test_nothing_is_left_of_a_direction_that_is_held_itself() -> None:
    assert without(unit(1), np.stack([unit(2), unit(1)]))[1] == pytest.approx(0, abs=1e-12)


def test_for_a_sheet_a_latent_moves_as_far_as_its_length_allows() -> None:
    latents = np.array([[1, 2, 2, 4]], np.float32)
    np.testing.assert_allclose(moved_within(latents, np.eye(4)[0], 1), [[3.5, 1.45774, 1.45774, 2.91548]], atol=1e-5)
    (farthest,) = moved_within(latents, np.eye(4)[0], 3)
    assert farthest[0] == pytest.approx(0.95 * 5)
    assert np.linalg.norm(farthest) == pytest.approx(5)
    assert moved_within(latents, np.eye(4)[0], 0) is latents
