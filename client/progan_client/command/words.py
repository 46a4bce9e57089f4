"""Say the words of the library in those of the command: options instead of arguments. Pure."""

import re

# Arguments of the library that have another name than their option.
_OPTIONS = {
    "timeout_s": "timeout",
    "root": "tls-root",
    "certificate": "tls-cert",
    "key": "tls-key",
    "token": "token-file",
    "frames_between": "frames",
    "encoding": "format",
    "suffix": "output",
    "edits": "edit",
    "sets": "set",
    "warmup_s": "warmup",
    "duration_s": "duration",
    "enough_db": "enough",
}
_PHRASES = {
    "tls=Tls(root=...)": "--tls-root FILE",
    "tls=Tls(certificate=..., key=...)": "--tls-cert FILE and --tls-key FILE",
    "tls=Tls()": "--tls",
    "tls=": "--tls and --tls-root",
    "token=...": "--token-file FILE or PROGAN_TOKEN",
    "allow_plain_token=True": "--allow-plain-token",
    "use client.stream": "give fewer --images",
    "needs edits or sets": "needs --edit or --set",
}
_ARGUMENT = re.compile(r"\b[a-z][a-z_]*\b")
_NAMED = re.compile(r"^[a-z_]+(?=: )")


def in_options(sentence: str) -> str:
    """Replace what a Python program would write by options."""
    for phrase, option in _PHRASES.items():
        sentence = sentence.replace(phrase, option)
    return _NAMED.sub(_option, sentence)


def option_names(arguments: str) -> str:
    """Replace names of arguments by their options: "seeds[3]" -> "--seeds[3]"; "--output" stays."""
    return arguments if arguments.startswith("--") else _ARGUMENT.sub(_option, arguments)


def _option(argument: re.Match[str]) -> str:
    return f"--{_OPTIONS.get(argument[0], argument[0])}"
