"""Seeds to latents as the contract promises to every language."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from progan_service.latents.seeds import latents_from_seeds, seed_range

WORD = 2**64 - 1


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> list[int]:
    """A block of Philox 4x64 with 10 rounds: written from the paper, without numpy."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (right >> 64) ^ c1 ^ k0, right & WORD, (left >> 64) ^ c3 ^ k1, left & WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return [c0, c1, c2, c3]


def contract_words(seed: int, count: int) -> list[int]:
    """The first words of key (seed, 0), counter blocks 1, 2, 3, ..."""
    blocks = range(1, -(-count // 4) + 1)
    return [word for block in blocks for word in philox((block, 0, 0, 0), (seed, 0))][:count]


def box_muller(words: list[int]) -> list[float]:
    """Pairs of words to pairs of normal numbers, as the contract writes it."""
    numbers = []
    for first, second in zip(words[::2], words[1::2], strict=True):
        radius = math.sqrt(-2 * math.log(((first >> 11) + 1) * 2.0**-53))
        angle = 2 * math.pi * (second >> 11) * 2.0**-53
        numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return numbers


def seeds(*values: int) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)


def rows(*values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


# Seeds


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0,) * 4, (0,) * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        ((WORD,) * 4, (WORD,) * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    ],
)
def test_philox_as_written_here_gives_the_known_answers_of_random123(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: str
) -> None:
    assert [f"{word:016x}" for word in philox(counter, key)] == answer.split()


@pytest.mark.parametrize("seed", [0, 1, 1337, 2**32, 2**63, 2**64 - 1])
def test_a_latent_is_what_the_contract_computes(seed: int) -> None:
    expected = np.array(box_muller(contract_words(seed, 512)), np.float32)
    np.testing.assert_allclose(latents_from_seeds(seeds(seed), 512)[0], expected, rtol=1e-6, atol=1e-7)


def test_the_example_of_the_contract() -> None:
    np.testing.assert_array_equal(
        latents_from_seeds(seeds(1337), 4), rows([0.40742207, -0.04005989, 0.96828276, -1.8502237])
    )


def test_an_odd_size_leaves_the_last_sine_out() -> None:
    np.testing.assert_array_equal(latents_from_seeds(seeds(1337), 3), rows([0.40742207, -0.04005989, 0.96828276]))


def test_a_latent_does_not_depend_on_its_neighbours() -> None:
    together = latents_from_seeds(seeds(5, 6, 7), 10)
    np.testing.assert_array_equal(together[1:2], latents_from_seeds(seeds(6), 10))


def test_latents_are_normally_distributed() -> None:
    values = latents_from_seeds(seed_range(0, 500), 512)
    assert values.dtype == np.float32
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.005


def test_no_seeds_give_no_latents() -> None:
    assert latents_from_seeds(seeds(), 8).shape == (0, 8)


def test_a_range_of_seeds_goes_on_from_zero_after_the_last() -> None:
    assert seed_range(2**64 - 2, 4).tolist() == [2**64 - 2, 2**64 - 1, 0, 1]
