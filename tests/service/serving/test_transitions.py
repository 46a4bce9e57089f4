"""Lives follow their tables, and take no other step."""

from enum import Enum

import pytest

from progan_service.serving.life import ImpossibleTransitionError, follow

Bulb = Enum("Bulb", ["OFF", "ON", "BURNT_OUT"])

BULB = {Bulb.OFF: {Bulb.ON}, Bulb.ON: {Bulb.OFF, Bulb.BURNT_OUT}, Bulb.BURNT_OUT: set[Bulb]()}


def test_a_life_may_take_the_steps_of_its_table() -> None:
    assert follow(BULB, follow(BULB, Bulb.OFF, Bulb.ON), Bulb.BURNT_OUT) is Bulb.BURNT_OUT


def test_a_life_may_take_no_other_step() -> None:
    for state, following in [(Bulb.OFF, Bulb.OFF), (Bulb.OFF, Bulb.BURNT_OUT), (Bulb.BURNT_OUT, Bulb.ON)]:
        with pytest.raises(ImpossibleTransitionError, match=f"{following} cannot follow {state}"):
            follow(BULB, state, following)
