"""The root of the errors that a user can cause.

BadInputError
├── ConfigError        a configuration value              config
├── DatasetError       a dataset, or the source of one    data
├── CheckpointError    a training run's checkpoint        training
└── ModelStoreError    a model store or version           model_store
"""


class BadInputError(ValueError):
    """Something the user gave cannot be used; the message names the place, the value and the rule."""
