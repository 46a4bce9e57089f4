"""A day of load under each rule for the number of servers, simulated; draws build/bench/autoscaling.png. Takes seconds.

What k8s/components/autoscaling does was chosen here. A server is a queue in front of a device (docs/overload.md);
Prometheus, the HorizontalPodAutoscaler and clients are as slow to notice as they are in a cluster.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont
from results import DIRECTORY

DAY_S = 86_400

# One server: a batch of n images takes BATCH_S + n * IMAGE_S, so 100 images/s in batches of 16.
BATCH_S, IMAGE_S, LARGEST = 0.04, 0.0075, 16
CAPACITY = LARGEST / (BATCH_S + LARGEST * IMAGE_S)
LONGEST_WAIT_S = 5.0  # deadline of the callers: what would wait longer is refused
START_S = 75  # from the decision to a warm server, the image being on the node

# Callers try a refused image again, as progan-client does.
RETRY_AFTER_S, RETRIED = 5, 0.75

# What sees it: a scrape and a decision every 15 s, rates over a minute; HPA's own tolerance and speed.
STEP_S, RATE_S, TOLERANCE = 15, 60, 0.1
DOWN_AFTER_S, DOWN_EVERY_S = 600, 120
LEAST, MOST = 2, 20

NODE_LOST_S = 300  # until Kubernetes replaces the pods of a node that does not answer


def load(second: int) -> float:
    """Return the images asked for in a second: a day with a quiet night, and three bursts."""
    hour = second / 3600
    images = 120 + 380 * max(0.0, math.sin((hour - 6) / 16 * math.pi))
    if 9.5 <= hour < 9.5 + 10 / 60:
        images += 500  # a campaign
    if 14 <= hour < 14 + 3 / 60:
        images *= 2.2  # three minutes, shorter than anything can react
    if 22.5 <= hour < 23:
        images += 300  # a nightly job, when few servers are there
    return images


ROLLOUT_AT_S, NODE_DIES_AT_S = 11 * 3600, 16 * 3600


@dataclass(eq=False)
class Server:
    """A replica: since when it is ready, what waits in it, and when it is gone or dies."""

    ready_at: float
    waiting: float = 0.0
    dead: bool = False


@dataclass(frozen=True)
class Seen:
    """What the series say at a scrape: rates over the last minute, summed over all servers, and the replicas.

    images, refused   per second
    parts             waiting on average, by Little's law: the rate of the sum of waiting times
    busy              devices that are computing, on average
    """

    images: float
    refused: float
    parts: float
    busy: float
    replicas: int


Rule = Callable[[Seen], float]  # returns the replicas that are needed, before rounding up

RULES: dict[str, Rule] = {
    "8 servers, always": lambda seen: 8,
    "devices are busy for 70 % of the time": lambda seen: seen.busy / 0.7,
    "8 parts wait at each server, and refused": lambda seen: (seen.parts + seen.refused) / 8,
    "asked for 70 % of the capacity": lambda seen: (seen.images + seen.refused) / (0.7 * CAPACITY),
}


@dataclass
class Day:
    """What became of a day."""

    asked: float = 0.0
    refused: float = 0.0  # a caller that tried three times counts three times
    lost: float = 0.0  # images that a caller gave up
    late: float = 0.0  # images that waited for more than a second
    server_hours: float = 0.0
    changes: int = 0
    replicas: list[int] = field(default_factory=list)  # every 15 s
    lost_at: list[float] = field(default_factory=list)  # images lost in these 15 s


def simulate(
    rule: Rule, *, connection_age_s: float = 60.0, loaded: Callable[[int], float] = load, until_s: int = DAY_S
) -> Day:
    """Return what becomes of a day under a rule.

    connection_age_s   after which clients know a new server: its share of the load grows until then
    """
    day = Day()
    servers = [Server(ready_at=-1e9) for _ in range(LEAST)]
    retries = [0.0] * (until_s + RETRY_AFTER_S + 1)
    totals = deque([(0.0, 0.0, 0.0, 0.0)], maxlen=RATE_S // STEP_S + 1)  # images, refused, seconds waited, seconds busy
    images = refused = waited = busy = 0.0
    wanted: deque[int] = deque(maxlen=DOWN_AFTER_S // STEP_S)
    down_at = -math.inf
    rolling: list[Server] = []
    lost_before = 0.0

    for second in range(until_s):
        fresh = loaded(second)
        arriving = fresh + retries[second]
        day.asked += fresh
        shares = [_share(server, second, connection_age_s) for server in servers]
        for server, share in zip(servers, shares, strict=True):
            made, turned_away, parts = _serve(server, arriving * share / (sum(shares) or 1.0))
            images, refused, waited = images + made, refused + turned_away, waited + parts
            busy += made / CAPACITY
            day.late += made * (server.waiting / CAPACITY > 1)
            retries[second + RETRY_AFTER_S] += RETRIED * turned_away
            day.refused += turned_away
            day.lost += (1 - RETRIED) * turned_away
        if not any(shares):  # nobody is there
            day.lost += arriving
        day.server_hours += len(servers) / 3600

        if second == ROLLOUT_AT_S:
            rolling = list(servers)
        if rolling and second % START_S == 0:  # one at a time; the new one was started beside the old one
            servers.remove(rolling.pop())
            servers.append(Server(ready_at=second))
        if second == NODE_DIES_AT_S:
            for server in servers[: math.ceil(len(servers) / 3)]:
                server.dead, server.waiting = True, 0.0
        if second == NODE_DIES_AT_S + NODE_LOST_S:
            servers = [s if not s.dead else Server(ready_at=second + START_S) for s in servers]

        if second % STEP_S:
            continue
        totals.append((images, refused, waited, busy))
        rates = [
            (new - old) / max(STEP_S, STEP_S * (len(totals) - 1))
            for new, old in zip(totals[-1], totals[0], strict=True)
        ]
        now = len(servers)
        needed = rule(Seen(*rates, replicas=now))
        wanted.append(now if abs(needed / now - 1) <= TOLERANCE else max(LEAST, min(MOST, math.ceil(needed))))
        if wanted[-1] > now:
            target = min(wanted[-1], max(2 * now, now + 4))
            servers += [Server(ready_at=second + START_S) for _ in range(target - now)]
        elif max(wanted) < now and second - down_at >= DOWN_EVERY_S:
            down_at = second
            servers.remove(max(servers, key=lambda s: s.ready_at))
            rolling = [server for server in rolling if server in servers]
        day.changes += len(servers) != now
        day.replicas.append(len(servers))
        day.lost_at.append(day.lost - lost_before)
        lost_before = day.lost
    return day


def _share(server: Server, second: float, connection_age_s: float) -> float:
    """Return the share of the load that a server gets: clients learn of it when they open their next connection."""
    if server.dead or second < server.ready_at:
        return 0.0
    return min(1.0, (second - server.ready_at + 1) / connection_age_s)


def _serve(server: Server, arriving: float) -> tuple[float, float, float]:
    """Pass a second; return the images made, those refused, and the parts that wait on average."""
    room = LONGEST_WAIT_S * CAPACITY + CAPACITY - server.waiting
    taken = min(arriving, max(0.0, room))
    made = min(CAPACITY, server.waiting + taken)
    server.waiting += taken - made
    # A batch takes what came during the one before; so half of a batch waits, even where no queue grows.
    batch = LARGEST if made >= CAPACITY else min(LARGEST, made * BATCH_S / (1 - made * IMAGE_S))
    return made, arriving - taken, server.waiting + batch / 2


# -- The report --------------------------------------------------------------------------------------------------------


def main() -> None:
    days = {name: simulate(rule) for name, rule in RULES.items()}
    *_, (name, chosen) = RULES.items()
    ages = {f"{name}, connections of {age} s": simulate(chosen, connection_age_s=age) for age in (30, 300)}
    print(f"{'rule':<55} {'lost':>8} {'refused':>8} {'late':>8} {'server h':>9} {'changes':>8}")
    for name, day in (days | ages).items():
        shares = "".join(f"{100 * part / day.asked:>7.2f}% " for part in (day.lost, day.refused, day.late))
        print(f"{name:<55} {shares}{day.server_hours:>9.0f} {day.changes:>8}")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    picture(days).save(DIRECTORY / "autoscaling.png")
    print("build/bench/autoscaling.png: the day, replicas (blue), replicas at full use (grey), images lost (red)")


WIDTH, PANEL, LEFT = 1600, 220, 60
INK, GREY, RULE_COLOUR, PAPER, BLUE, RED = "#1f2933", "#9aa5b1", "#e3e8ed", "#ffffff", "#2b6cb0", "#c53030"


def picture(days: dict[str, Day]) -> Image.Image:
    """Draw a panel for each day: replicas, those that full use would take, and the images lost."""
    image = Image.new("RGB", (WIDTH, PANEL * len(days) + 40), PAPER)
    draw = ImageDraw.Draw(image)
    for number, (name, day) in enumerate(days.items()):
        _panel(draw, PANEL * number + 20, name, day)
    return image


def _panel(draw: ImageDraw.ImageDraw, top: int, name: str, day: Day) -> None:
    bottom, font = top + PANEL - 50, ImageFont.load_default(20)
    highest = 14

    def line(values: Sequence[float], colour: str, scale: float) -> None:
        width = WIDTH - 2 * LEFT
        points = [
            (LEFT + width * index / len(values), bottom - (bottom - top - 30) * min(1.0, value / scale))
            for index, value in enumerate(values)
        ]
        draw.line(points, colour, 2)

    share = 100 * day.lost / day.asked
    draw.text((LEFT, top), f"{name}: {share:.2f} % lost, {day.server_hours:.0f} server hours", INK, font, "lm")
    for hour in range(0, 25, 3):
        x = LEFT + (WIDTH - 2 * LEFT) * hour / 24
        draw.line([(x, top + 20), (x, bottom)], RULE_COLOUR)
        draw.text((x, bottom + 16), f"{hour}:00", GREY, font, "mm")
    line([load(STEP_S * step) / CAPACITY for step in range(len(day.replicas))], GREY, highest)
    line(day.replicas, BLUE, highest)
    line(day.lost_at, RED, 500)


if __name__ == "__main__":
    main()
