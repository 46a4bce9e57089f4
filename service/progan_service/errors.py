"""The errors that end a command. Each class has its exit code, and its message is one sentence for the user.

ProganError                            exit code
├── BadInputError                      78   what the user gave cannot be used
│   ├── ConfigError                         a configuration value         here
│   ├── FormatError                         the content of a file         formats
│   │   └── NewerFormatError                of a newer release            formats
│   ├── DatasetError                        a dataset, or its source      data.errors
│   ├── ImageSetError                       images to be measured         evaluation.images
│   ├── CheckpointError                     a checkpoint of a run         training.run.checkpoint
│   │   └── DamagedCheckpointError          a file that is no whole one   training.run.checkpoint
│   ├── OutOfMemoryError                    a stage that does not fit     training.dry_run
│   ├── RuinedRunError                      nearly all steps skipped      training.run.ruin
│   ├── WeightsError                        a weights file                export.weights_file
│   ├── DiscriminatorError                  that of a version             export.discriminator
│   ├── NvidiaPickleError                   a pickle of NVIDIA's          sources.nvidia.network
│   ├── HubModuleError                      a TF Hub module               sources.tfhub.limits
│   ├── SourceError                         no kind of source             sources.source
│   ├── ExtractorError                      a network for features        sources.extractor
│   ├── NoBestError                         a run without a best snapshot sources.best
│   ├── FakesError                          a generator to be measured    sources.fakes
│   └── ModelStoreError                     a model store                 store.errors
│       └── DamagedVersionError             a version in it               store.errors
│           └── UnreadableError         1   is a FileError as well        store.errors
├── MendableError                       1   something outside; once it is mended, the same command works
│   ├── FileError                           full disk, no permission, …   here; made by host.faults
│   ├── RunBusyError                        a run that is being trained   training.run.directory
│   ├── WorkerPortError                     the port of a worker in use   training.workers
│   ├── ListenError                         a port in use                 serving.listen
│   └── NotAcceptingError                   a server that nobody reaches  serving.listen
└── WorkerLostError                    75   run again to go on            training.workers

What a server answers to a call that fails is another tree: serving.errors.
"""

from typing import ClassVar

from progan_service import exit_codes


class ProganError(Exception):
    """An error that ends a command with `exit_code`."""

    exit_code: ClassVar[int]


class BadInputError(ProganError, ValueError):
    """Something the user gave cannot be used. The message names the place, the value and the rule."""

    exit_code = exit_codes.BAD_CONFIG


class ConfigError(BadInputError):
    """A configuration value breaks its rule; the message names the field, the value and the rule.

    field, rule   empty where it is not about one field
    """

    def __init__(self, message: str, field: str = "", rule: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.rule = rule


class MendableError(ProganError):
    """Something outside of this program is in the way. The message says what to do about it."""

    exit_code = exit_codes.FAILED


class FileError(MendableError, OSError):
    """A file or directory cannot be read or written. The message names the path, the reason and what to do."""


_MAX_SENTENCE = 500  # characters: a path and a few words; enough to find the fault, short enough for a log line


def sentence(error: BaseException) -> str:
    """Return the message of an error as one line that every protocol and log can carry.

    Names of files may be no text at all: what cannot be shown is written as an escape. Long messages are cut.
    """
    text = str(error) or type(error).__name__
    if len(text) > _MAX_SENTENCE:
        text = f"{text[: _MAX_SENTENCE - 4]} ..."
    return one_line(text)


def one_line(text: str) -> str:
    """Write line breaks, escape sequences and all else that cannot be shown as escapes: \\n, \\x1b, \\udcff."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
