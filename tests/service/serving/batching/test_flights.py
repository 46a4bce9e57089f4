"""What a batch adds to the time in which its device is busy, and when the device is free."""

from progan_service.serving.batching.flights import Flights


def free_at(device: Flights, now: float) -> float:
    """The estimate for batches of 4 that keep the device busy for 3 s each, and take 5 s alone."""
    return device.free_at(now, share_s={4: 3.0}.__getitem__, alone_s={4: 5.0}.__getitem__)


def test_the_share_of_a_lone_batch_is_all_its_time() -> None:
    device = Flights()
    batch = device.begin(4, 10.0)
    assert device.end(batch, 15.0) == 5.0
    assert batch.alone


def test_the_share_of_a_batch_begins_when_the_one_before_it_ends() -> None:
    device = Flights()
    first, second = device.begin(4, 10.0), device.begin(4, 11.0)
    assert (device.end(first, 15.0), device.end(second, 18.0)) == (5.0, 3.0)
    third = device.begin(4, 30.0)
    assert device.end(third, 35.0) == 5.0
    assert (first.alone, second.alone, third.alone) == (False, False, True)


def test_shares_add_up_to_the_time_that_the_device_was_busy_whichever_batch_ends_first() -> None:
    device = Flights()
    first, second = device.begin(4, 10.0), device.begin(4, 10.0)
    assert (device.end(second, 15.0), device.end(first, 16.0)) == (5.0, 1.0)


def test_an_idle_device_is_free_now() -> None:
    assert free_at(Flights(), 20.0) == 20.0


def test_a_lone_batch_ends_after_its_time_alone() -> None:
    device = Flights()
    device.begin(4, 10.0)
    assert free_at(device, 11.0) == 15.0


def test_a_second_batch_adds_its_share_but_takes_no_less_than_alone() -> None:
    device = Flights()
    device.begin(4, 10.0)
    device.begin(4, 11.0)
    assert free_at(device, 11.0) == 18.0
    late = Flights()
    late.begin(4, 10.0)
    late.begin(4, 14.0)
    assert free_at(late, 14.0) == 19.0


def test_a_batch_that_began_long_ago_has_its_share_from_the_end_of_the_last_one() -> None:
    device = Flights()
    first = device.begin(4, 10.0)
    device.begin(4, 10.0)
    device.end(first, 15.0)
    assert free_at(device, 15.0) == 18.0


def test_a_batch_that_is_late_may_be_as_late_again_and_holds_up_the_next() -> None:
    device = Flights()
    device.begin(4, 10.0)
    device.begin(4, 11.0)
    assert free_at(device, 17.0) == 22.0
