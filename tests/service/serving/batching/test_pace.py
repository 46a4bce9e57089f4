"""How long a batch takes, and when devices will be free."""

from progan_service.serving.batching.deadlines import Forecast
from progan_service.serving.batching.flights import Flights
from progan_service.serving.batching.pace import Pace


def paced(**seconds: list[float]) -> Pace:
    """A pace with measurements by size: `paced(of_4=[0.1, 0.2])`."""
    pace = Pace()
    for size, measured in seconds.items():
        for each in measured:
            pace.record(int(size.removeprefix("of_")), each, 10.0)
    return pace


def forecast(pace: Pace, now: float, sizes: tuple[int, ...], *devices: list[tuple[int, float]]) -> Forecast | None:
    """The usual forecast for devices with batches in flight: their sizes, and when they began."""
    flights = [Flights() for _ in devices]
    for device, batches in zip(flights, devices, strict=True):
        for size, since in batches:
            device.begin(size, since)
    return pace.forecast(now, sizes, flights, at_worst=False, alone=Pace())


def test_before_the_first_batch_nothing_is_known() -> None:
    assert Pace().seconds(4) == 0.0


def test_the_first_measurement_is_the_pace() -> None:
    assert paced(of_4=[2.0]).seconds(4) == 2.0


def test_two_batches_that_were_held_up_change_nothing() -> None:
    assert paced(of_4=[2.0, 2.0, 2.0, 90.0, 90.0]).seconds(4) == 2.0


def test_a_lasting_change_is_believed_after_three_batches() -> None:
    assert paced(of_4=[2.0, 2.0, 2.0, 2.0, 2.0, 8.0, 8.0, 8.0]).seconds(4) == 8.0


def test_at_worst_a_batch_takes_what_four_of_the_last_five_kept() -> None:
    assert paced(of_4=[2.0, 5.0, 3.0, 90.0, 4.0]).seconds_at_worst(4) == 5.0


def test_each_size_has_its_own_pace() -> None:
    pace = paced(of_1=[0.5], of_4=[2.0])
    assert (pace.seconds(1), pace.seconds(4)) == (0.5, 2.0)


def test_a_size_that_was_not_measured_is_not_underestimated() -> None:
    """It may take as long as the next larger one, and each row of it as long as one of the next smaller."""
    pace = paced(of_2=[1.0], of_8=[2.0])
    assert [pace.seconds(size) for size in (1, 4, 8, 16)] == [1.0, 2.0, 2.0, 4.0]


def test_before_the_first_batch_there_is_no_forecast() -> None:
    assert forecast(Pace(), 10.0, (1, 4), []) is None


def test_an_idle_device_may_have_another_pace_after_a_second() -> None:
    pace = paced(of_4=[2.0])
    assert forecast(pace, 11.1, (4,), []) is None
    assert forecast(pace, 11.1, (4,), [(4, 10.0)])


def test_a_device_is_free_when_its_batch_ends() -> None:
    found = forecast(paced(of_4=[2.0]), 10.0, (1, 4), [(4, 9.5)], [])
    assert found
    assert (found.free_at, found.sizes, found.seconds) == ((10.0, 11.5), (1, 4), (2.0, 2.0))


def test_a_batch_that_is_late_may_be_as_late_again() -> None:
    found = forecast(paced(of_4=[2.0]), 10.0, (4,), [(4, 7.5)])
    assert found
    assert found.free_at == (10.5,)


def test_a_batch_is_never_expected_to_take_longer_than_a_larger_one() -> None:
    """A size that was measured once, when something held it up, does not spoil the others."""
    found = forecast(paced(of_1=[1.0], of_4=[70.0], of_8=[2.0]), 10.0, (1, 4, 8), [])
    assert found
    assert found.seconds == (1.0, 2.0, 2.0)
