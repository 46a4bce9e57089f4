"""What the simulation of autoscaling says of loads whose answer is known."""

from autoscaling import CAPACITY, LEAST, RULES, Day, simulate

*_, CHOSEN = RULES.values()
HOUR = 3600


def settled(day: Day) -> set[int]:
    """The numbers of servers in the second half of the time."""
    return set(day.replicas[len(day.replicas) // 2 :])


def test_without_load_the_least_servers_stay() -> None:
    day = simulate(CHOSEN, loaded=lambda _: 0.0, until_s=HOUR)
    assert (set(day.replicas), day.lost) == ({LEAST}, 0.0)


def test_a_steady_load_gets_the_servers_that_it_needs_and_they_stay() -> None:
    day = simulate(CHOSEN, loaded=lambda _: 4.8 * CAPACITY, until_s=HOUR)
    assert settled(day) == {7}  # 4.8 / 0.7


def test_a_rule_by_what_waits_does_not_settle() -> None:
    """With more servers hardly anything waits at each, so they are taken away, until all are full again."""
    waiting = RULES["8 parts wait at each server, and refused"]
    assert simulate(waiting).changes > 4 * simulate(CHOSEN).changes


def test_a_burst_is_over_before_the_servers_go() -> None:
    def burst(second: int) -> float:
        return 5 * CAPACITY if 600 <= second < 900 else CAPACITY

    day = simulate(CHOSEN, loaded=burst, until_s=HOUR)
    most = day.replicas.index(max(day.replicas))
    assert max(day.replicas) >= 8  # 5 / 0.7, and what was refused meanwhile
    assert set(day.replicas[most : most + 600 // 15]) == {max(day.replicas)}
    fixed = simulate(lambda _: LEAST, loaded=burst, until_s=HOUR)
    assert 0 < day.lost < fixed.lost / 2


def test_what_clients_know_late_helps_late() -> None:
    def step(second: int) -> float:
        return 5 * CAPACITY if second >= 600 else CAPACITY

    lost = [simulate(CHOSEN, connection_age_s=age, loaded=step, until_s=HOUR).lost for age in (30, 60, 300)]
    assert lost == sorted(lost)
    assert lost[2] > 1.2 * lost[1]
