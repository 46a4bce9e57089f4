"""Calls and images by name of the token, for a bounded number of names."""

from prometheus_client import CollectorRegistry

from progan_service.serving.watching.callers import CallerMetrics


def counted(registry: CollectorRegistry, caller: str) -> tuple[float | None, float | None]:
    found = [
        registry.get_sample_value(f"progan_caller_{what}_total", {"caller": caller}) for what in ("requests", "images")
    ]
    return found[0], found[1]


def test_who_has_no_token_is_not_counted() -> None:
    registry = CollectorRegistry()
    callers = CallerMetrics(registry)
    callers.count_call("", "")
    callers.count_call("mallory", "")
    assert next(iter(registry.collect())).samples == []


def test_above_two_hundred_names_the_others_count_together() -> None:
    registry = CollectorRegistry()
    callers = CallerMetrics(registry)
    callers.follow(f"name{number}" for number in range(1000))
    for name in ("name0", "name199", "name200", "name999"):
        callers.count_call(name, "")
        callers.count_images(name, 5)
    assert [counted(registry, name) for name in ("name0", "name199", "name200")] == [(1, 5), (1, 5), (None, None)]
    assert counted(registry, "(others)") == (2, 10)
    callers.follow(["name0"])
    assert [counted(registry, name) for name in ("name0", "(others)")] == [(1, 5), (None, None)]
