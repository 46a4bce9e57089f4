"""The root of the errors that a user can cause.

BadInputError
├── ConfigError        a configuration value              config
├── DatasetError       a dataset, or the source of one    data
├── CheckpointError    a training run's checkpoint        training
├── WeightsError       a weights file                     weights
├── NvidiaPickleError  a pickle of NVIDIA's networks      sources.nvidia
├── HubModuleError     a TF Hub module                    sources.hub_download
├── SourceError        what is no kind of source          sources.source
├── FakesError         what cannot be measured            sources.fakes
├── OutOfMemoryError   a stage that does not fit          training.dry_run
└── ModelStoreError    a model store or version           model_store
"""


class BadInputError(ValueError):
    """Something the user gave cannot be used; the message names the place, the value and the rule."""


class ConfigError(BadInputError):
    """A configuration value breaks its rule; the message names the field, the value and the rule.

    field, rule   empty where it is not about one field
    """

    def __init__(self, message: str, field: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.rule = rule
