import numpy as np
import pytest

from progan_service.data.errors import DatasetError
from progan_service.data.order import drawn, image_indices, mirrored


def test_every_epoch_shows_every_image_once() -> None:
    shown = image_indices(seed=5, start=0, count=300, dataset_size=100).reshape(3, 100)
    assert (np.sort(shown, axis=1) == np.arange(100)).all()


def test_epochs_differ_and_seeds_differ() -> None:
    first, second = image_indices(5, 0, 200, 100).reshape(2, 100)
    assert (first != second).any()
    assert (first != image_indices(6, 0, 100, 100)).any()


def test_the_order_of_a_seed_stays_what_it_was() -> None:
    assert image_indices(1, 0, 10, 4).tolist() == [1, 2, 0, 3, 0, 1, 3, 2, 1, 2]


def test_a_position_shows_the_same_image_however_it_is_asked_for() -> None:
    whole = image_indices(seed=9, start=0, count=50, dataset_size=7)
    assert image_indices(9, 20, 17, 7).tolist() == whole[20:37].tolist()
    assert [int(image_indices(9, position, 1, 7)[0]) for position in range(50)] == whole.tolist()


def test_a_run_far_into_training_needs_no_walk_from_the_start() -> None:
    indices = image_indices(seed=3, start=10**15, count=4, dataset_size=1000)
    assert indices.dtype == np.int64
    assert len(indices) == 4


def test_asking_for_nothing_gives_nothing() -> None:
    assert image_indices(0, 5, 0, 3).shape == (0,)
    assert mirrored(0, 5, 0).shape == (0,)
    assert drawn(0, 5, 0, 3).shape == (0,)


def test_changing_an_answer_does_not_change_the_next_one() -> None:
    image_indices(2, 0, 10, 10)[:] = 0
    assert sorted(image_indices(2, 0, 10, 10)) == list(range(10))


def test_coins_are_fair_and_pure_in_their_position() -> None:
    coins = mirrored(seed=3, start=0, count=100_000)
    assert coins.dtype == np.bool_
    assert 0.49 < coins.mean() < 0.51
    assert mirrored(3, 777, 50).tolist() == coins[777:827].tolist()
    assert mirrored(1, 0, 12).tolist() == [bool(coin) for coin in (0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0)]


def test_draws_are_uniform_and_in_range() -> None:
    indices = drawn(seed=3, start=0, count=100_000, dataset_size=10)
    assert indices.dtype == np.int64
    counts = np.bincount(indices)
    assert len(counts) == 10
    assert counts.min() > 9_600  # 10,000 each, with a standard deviation of 95
    assert counts.max() < 10_400


def test_draws_are_pure_in_their_position() -> None:
    whole = drawn(seed=3, start=0, count=1000, dataset_size=48)
    assert drawn(3, 777, 50, 48).tolist() == whole[777:827].tolist()
    assert [int(drawn(3, position, 1, 48)[0]) for position in range(20)] == whole[:20].tolist()


def test_draws_of_a_seed_stay_what_they_were() -> None:
    assert drawn(1, 0, 10, 100).tolist() == [41, 40, 39, 84, 15, 81, 85, 90, 12, 95]


def test_draws_repeat_images_and_are_no_epochs() -> None:
    assert len(set(drawn(5, 0, 100, 100).tolist())) < 80  # 63 different ones are expected


def test_draws_have_nothing_to_do_with_the_coins() -> None:
    coins, draws = mirrored(3, 0, 100_000), drawn(3, 0, 100_000, 1000)
    assert draws[coins].mean() == pytest.approx(draws[~coins].mean(), abs=10)  # standard deviation: 2


def test_one_image_is_drawn_every_time() -> None:
    assert drawn(9, 10**15, 3, 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("seed", "start", "count", "size", "message"),
    [
        (-1, 0, 1, 4, r"seed is -1: it must lie in \[0, 2\^64\)"),
        (2**64, 0, 1, 4, "seed is 18446744073709551616"),
        (0, -1, 1, 4, "start is -1 and count is 1: neither may be negative"),
        (0, 0, -2, 4, "start is 0 and count is -2"),
        (0, 0, 1, 0, "dataset_size is 0: an order needs at least one image"),
    ],
)
def test_impossible_positions_are_refused(seed: int, start: int, count: int, size: int, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        image_indices(seed, start, count, size)
    with pytest.raises(DatasetError, match=message):
        drawn(seed, start, count, size)


def test_impossible_coins_are_refused() -> None:
    with pytest.raises(DatasetError, match="seed is -1"):
        mirrored(-1, 0, 1)
