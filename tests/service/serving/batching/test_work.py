"""Parts of works."""

from progan_service.serving.batching.work import Slice, Work, in_parts


def test_a_batch_is_cut_into_parts_with_the_same_rows_in_order() -> None:
    first, second = Work(5), Work(2)
    parts = in_parts([Slice(first, 1, 5), Slice(second, 0, 2)], 3)
    assert parts == [[Slice(first, 1, 4)], [Slice(first, 4, 5), Slice(second, 0, 2)]]
