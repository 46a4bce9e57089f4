"""The thread of a device: one work after the other, those in the background when nothing else waits."""

import threading

from progan_service.serving.batching.device import DeviceThread


def test_work_in_the_background_lets_others_go_first_seven_times() -> None:
    ran: list[str] = []
    begin, over = threading.Event(), threading.Event()
    device = DeviceThread("test")

    def next_batch(result: str = "") -> None:
        """Batches of images come one after the other, without a pause."""
        ran.append(result)
        if len(ran) < 12:
            device.start(lambda: "images", next_batch)
        else:
            over.set()

    device.start(lambda: begin.wait(10) and "images", next_batch)
    device.start(lambda: "gradient", ran.append, background=True)
    begin.set()
    assert over.wait(10)
    device.close()
    assert ran == [*["images"] * 8, "gradient", *["images"] * 3]


def test_what_it_computed_may_bring_new_work_which_goes_first() -> None:
    ran: list[str] = []
    begin, over = threading.Event(), threading.Event()
    device = DeviceThread("test")

    def more(result: str) -> None:
        ran.append(result)
        device.start(lambda: "next images", ran.append)

    device.start(lambda: begin.wait(10) and "images", more)
    device.start(lambda: "gradient", lambda result: (ran.append(result), over.set()), background=True)
    begin.set()
    assert over.wait(10)
    device.close()
    assert ran == ["images", "next images", "gradient"]
