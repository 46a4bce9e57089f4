"""Which callers get a labelled version."""

import pytest

from progan_service.store.errors import ModelStoreError
from progan_service.store.rollout import Rollout

CALLERS = [f"caller-{number}" for number in range(2000)]


def of(rollout: Rollout, label: str) -> set[str]:
    return {caller for caller in CALLERS if rollout.label_for(caller) == label}


def test_without_shares_nobody_gets_a_labelled_version() -> None:
    assert of(Rollout(labels={"canary": 2}), "") == set(CALLERS)


def test_a_share_is_about_its_percent_of_the_callers() -> None:
    some = of(Rollout(labels={"canary": 2}, shares={"canary": 5}), "canary")
    assert len(some) == 95  # of 2000, always the same
    assert of(Rollout(labels={"canary": 2}, shares={"canary": 100}), "canary") == set(CALLERS)


def test_a_larger_share_keeps_the_callers_of_a_smaller_one() -> None:
    shares = [of(Rollout(labels={"canary": 2}, shares={"canary": percent}), "canary") for percent in (1, 5, 50)]
    assert shares[0] < shares[1] < shares[2]


def test_shares_of_two_labels_have_no_caller_in_common() -> None:
    both = Rollout(labels={"canary": 2, "wild": 3}, shares={"canary": 40, "wild": 60})
    assert of(both, "canary") | of(both, "wild") == set(CALLERS)


def test_shares_are_read_again_as_they_were_written() -> None:
    rollout = Rollout(labels={"canary": 2}, shares={"canary": 5})
    assert Rollout.from_json(rollout.to_json()) == rollout
    assert '"shares"' not in Rollout(labels={"canary": 2}).to_json()


@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ({"wild": 5}, "label 'wild' has a share of the callers, and no version"),
        ({"canary": 0}, "share of 'canary' is 0: must be 1 to 100 percent"),
        ({"canary": 101}, "share of 'canary' is 101: must be 1 to 100 percent"),
        ({"canary": 60, "stable": 60}, "shares are 120 percent in all: must be at most 100"),
    ],
)
def test_shares_that_cannot_be(shares: dict[str, int], problem: str) -> None:
    with pytest.raises(ModelStoreError, match=f"^{problem}$"):
        Rollout(labels={"canary": 2, "stable": 1}, shares=shares)
