"""In which order works are served when no deadline presses."""

from hypothesis import given
from hypothesis import strategies as st

from progan_service.serving.batching.turns import Turns
from progan_service.serving.batching.work import Work


def turns(*works: Work) -> Turns:
    """Works in the order in which they came."""
    waiting = Turns()
    for work in works:
        waiting.put(work)
    return waiting


def served(waiting: Turns, rows: int, names: dict[Work, str]) -> str:
    """Serve so many rows. Return the names of their works, a letter for each row."""
    letters = ""
    for _ in range(rows):
        work = waiting.first()
        assert work
        letters += names[work]
        waiting.take(work, 1)
    return letters


def test_without_works_it_is_nobodys_turn() -> None:
    assert turns().first() is None


def test_calls_of_one_size_are_served_one_after_the_other() -> None:
    first, second = Work(3), Work(3)
    assert served(turns(first, second), 6, {first: "a", second: "b"}) == "aaabbb"


def test_a_small_call_passes_a_large_one() -> None:
    large, small = Work(10_000), Work(2)
    waiting = turns(large)
    assert served(waiting, 5, {large: "a"}) == "aaaaa"
    waiting.put(small)
    assert served(waiting, 4, {large: "a", small: "b"}) == "bbaa"


def test_small_calls_that_keep_coming_do_not_hold_up_a_large_one_for_ever() -> None:
    """While four small calls wait at any time, it has to wait for as many rows as it has, of each of them."""
    large = Work(8)
    waiting = turns(large)
    names = {large: "a"}
    order = ""
    for _ in range(80):
        while waiting.rows - large.waiting < 4:
            small = Work(1)
            names[small] = "b"
            waiting.put(small)
        order += served(waiting, 1, names)
    assert order.index("a") <= 5 * 8
    assert "aaaaaaaa" in order


def test_callers_share_evenly_whatever_the_number_of_their_calls() -> None:
    many = [Work(4, caller="many") for _ in range(10)]
    few = [Work(4, caller="few") for _ in range(2)]
    names = dict.fromkeys(many, "m") | dict.fromkeys(few, "f")
    assert served(turns(*many, *few), 16, names) == "mmmmffffmmmmffff"


def test_a_caller_that_was_away_has_no_claim_to_the_past() -> None:
    always = [Work(4, caller="always") for _ in range(10)]
    back = [Work(4, caller="back") for _ in range(3)]
    names = dict.fromkeys(always, "a") | dict.fromkeys(back, "b")
    waiting = turns(*always)
    assert served(waiting, 20, names) == "a" * 20
    for work in back:
        waiting.put(work)
    assert sorted(served(waiting, 16, names)) == sorted("a" * 8 + "b" * 8)


def test_a_caller_does_not_get_ahead_by_leaving_for_a_moment() -> None:
    """It comes back whenever it has been served, and still has no more than half of the rows."""
    steady = [Work(100, caller="steady")]
    names = dict.fromkeys(steady, "s")
    waiting = turns(*steady)
    order = ""
    for _ in range(200):
        if waiting.rows_of("sly") == 0:
            again = Work(1, caller="sly")
            names[again] = "y"
            waiting.put(again)
        order += served(waiting, 1, names)
    assert order.count("y") == 100


def test_the_pieces_of_a_stream_are_served_in_their_order_and_share_with_other_calls() -> None:
    pieces = [Work(2, flow="stream") for _ in range(4)]
    lone = Work(4)
    names = dict(zip(pieces, "abcd", strict=True)) | {lone: "x"}
    assert served(turns(*pieces, lone), 12, names) == "aabbxxxxccdd"


def test_discarded_works_have_no_turn() -> None:
    gone, stays = Work(3), Work(3)
    waiting = turns(gone, stays)
    assert served(waiting, 1, {gone: "a"}) == "a"
    assert waiting.discard(gone) == 2
    assert waiting.discard(gone) == 0
    assert served(waiting, 3, {stays: "b"}) == "bbb"
    assert (waiting.rows, waiting.callers) == (0, 0)


def test_rows_taken_out_of_turn_count_as_served() -> None:
    hurried, patient = [Work(4, caller="hurried") for _ in range(2)], [Work(4, caller="patient") for _ in range(2)]
    waiting = turns(*hurried, *patient)
    waiting.take(hurried[1], 4)
    names = dict.fromkeys(hurried, "h") | dict.fromkeys(patient, "p")
    assert served(waiting, 12, names) == "pppphhhhpppp"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 20)), min_size=1, max_size=30))
def test_nobody_is_served_later_than_by_even_service(asked: list[tuple[str, int]]) -> None:
    """By even service each of n callers has every nth row. It ends no later, but for one work of each other caller."""
    works = [Work(rows, caller=caller) for caller, rows in asked]
    waiting = turns(*works)
    of = {name: sum(rows for caller, rows in asked if caller == name) for name, _ in asked}
    ends: dict[str, int] = {}
    for number in range(1, sum(of.values()) + 1):
        work = waiting.first()
        assert work
        waiting.take(work, 1)
        if not waiting.rows_of(work.caller):
            ends[work.caller] = number
    largest = max(rows for _, rows in asked)
    for name, rows in of.items():
        even = sum(min(rows, others) for others in of.values())
        assert ends[name] <= even + largest * (len(of) - 1)
