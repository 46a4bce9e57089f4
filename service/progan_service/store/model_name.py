"""Names of models: plain names of directories."""

import re

from progan_service.store.errors import ModelStoreError

DEFAULT_FILE = "default.json"  # stands beside the models

MODEL_NAME = re.compile(r"(?!default\.json\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_model_name(name: str) -> None:
    """Raise ModelStoreError for a name that no model can have."""
    if not MODEL_NAME.fullmatch(name):
        raise ModelStoreError(
            f"model name is {name!r}: must be 1 to 63 letters, digits, dots, dashes or underscores, "
            f"beginning with a letter or digit, and not {DEFAULT_FILE}"
        )
