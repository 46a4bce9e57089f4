"""How the first commits wrote a run, so that a run that was begun with them goes on."""

from collections.abc import Mapping
from typing import Any

_NAMES = {"licence": "license"}  # of settings, then and now
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}

SETTINGS = frozenset(
    {
        *("dataset.name", "dataset.image_count", "dataset.digest", "dataset.label_names"),
        *("network.resolution", "network.channels", "network.label_size"),
        *("network.fmap_base", "network.fmap_max", "network.d_pool"),
        *("training.seed", "training.stable_kimg", "training.fade_kimg"),
        *("training.batch_sizes", "training.learning_rates", "training.learning_rate_ramp_kimg"),
        *("training.adam_beta2", "training.ema_halflife_kimg", "training.mbstd_group_size", "training.drift_weight"),
        *("training.gp_weight", "training.gp_target", "training.gp_reference"),
        *("training.mirror", "training.precision", "training.fused_kernels"),
    }
)
"""Those that the digest of a run was computed from, whether at their default or not."""


def in_present_words(section: Any) -> Any:
    """Return an object of a `config.json` with the names and values that settings have now."""
    if not isinstance(section, dict):
        return section
    present = {_NAMES.get(name, name): value for name, value in section.items()}
    if present.get("precision") in list(_PRECISIONS):
        present["precision"] = _PRECISIONS[present["precision"]]
    return present


def in_first_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the values that they had in the first commits."""
    first = {now: then for then, now in _PRECISIONS.items()}
    precision = settings["training.precision"]
    return {**settings, "training.precision": first.get(precision, precision)}


def without_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they were when the digest of the 4x4 images alone told datasets apart."""
    return {name: value for name, value in settings.items() if name != "dataset.parts"}
