"""The paper's network of 128x128 pixels, saturated: images/s of the server beside a bare loop.

The batch size of the loop is the largest that a server chooses on this machine. The two take turns, and figures are
medians.
"""

from loops import bare_loop, client_loop
from models import FULL_SIZE, bare_call, loaded, request_for, untrained
from results import Row, medians, publish
from servers import progan

ROUNDS = 3
SECONDS = 10.0  # then the calls that have begun end
CLIENTS = 8
IMAGES = 8  # of a call


def main() -> None:
    with untrained(FULL_SIZE) as store, progan(store) as server:
        servable = loaded(store)
        batch = servable.largest_batch().rows
        call, request = bare_call(servable, batch), request_for(servable, IMAGES)
        bare, served = medians(
            (bare_loop(call, SECONDS), client_loop(server, request, CLIENTS, SECONDS)) for _ in range(ROUNDS)
        )
    ratio = f"{served.per_s * IMAGES / (bare.per_s * batch):.3f} of the bare loop"
    publish(
        "serving-full-size",
        [
            Row(f"bare loop, batch {batch}", bare.per_s * batch, "images/s"),
            Row(f"server, {CLIENTS} clients, calls of {IMAGES}", served.per_s * IMAGES, "images/s", ratio),
        ],
    )


if __name__ == "__main__":
    main()
