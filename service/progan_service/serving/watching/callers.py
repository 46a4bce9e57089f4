"""Who sends the load: calls and images by name of the token. The tokens file bounds the names, and so does a limit."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

_MOST_NAMES = 200  # that are counted one by one
_OTHERS = "(others)"  # no name of a token can have parentheses
_REFUSALS = {"QUOTA_EXCEEDED": "quota", "PERMISSION_DENIED": "permission"}  # by reason of the error


class CallerMetrics:
    """Counts by caller, each from 0. Used in the event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._labels: dict[str, str] = {}  # by name: that of the caller, or of all others
        self._requests = Counter(
            "progan_caller_requests_total",
            "Calls that have ended, by name of the token.",
            ["caller"],
            registry=registry,
        )
        self._images = Counter(
            "progan_caller_images_total", "Images made, by name of the token.", ["caller"], registry=registry
        )
        self._refusals = Counter(
            "progan_caller_refusals_total",
            "Calls refused because of the rights of their token: its quota, or its permission.",
            ["caller", "reason"],
            registry=registry,
        )

    def follow(self, names: Iterable[str]) -> None:
        """Count by these callers from now on, and no longer by those that are gone. Above 200, some count together."""
        before = set(self._labels.values())
        self._labels = {
            name: name if place < _MOST_NAMES else _OTHERS for place, name in enumerate(dict.fromkeys(names))
        }
        for label in before - set(self._labels.values()):
            self._forget(label)
        for label in set(self._labels.values()) - before:
            self._begin(label)

    def count_call(self, caller: str, reason: str) -> None:
        """Count a call that has ended. `reason` is that of its error; it counts as refused if its rights are why."""
        if label := self._labels.get(caller):
            self._requests.labels(label).inc()
            if reason in _REFUSALS:
                self._refusals.labels(label, _REFUSALS[reason]).inc()

    def count_images(self, caller: str, images: int) -> None:
        if label := self._labels.get(caller):
            self._images.labels(label).inc(images)

    def _begin(self, label: str) -> None:
        self._requests.labels(label)
        self._images.labels(label)
        for reason in _REFUSALS.values():
            self._refusals.labels(label, reason)

    def _forget(self, label: str) -> None:
        self._requests.remove(label)
        self._images.remove(label)
        for reason in _REFUSALS.values():
            self._refusals.remove(label, reason)
