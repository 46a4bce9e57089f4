"""The command speaks of options where the library speaks of arguments."""

import pytest

from progan_client.command.words import in_options, option_names


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("seed", "--seed"),
        ("seeds[3]", "--seeds[3]"),
        ("latents[0, 7]", "--latents[0, 7]"),
        ("latents, seeds, count", "--latents, --seeds, --count"),
        ("timeout_s", "--timeout"),
        ("frames_between", "--frames"),
        ("certificate, key", "--tls-cert, --tls-key"),
        ("--output", "--output"),
        ("PROGAN_TOKEN", "PROGAN_TOKEN"),
    ],
)
def test_names_of_arguments(arguments: str, options: str) -> None:
    assert option_names(arguments) == options


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("there:1 needs a token; give token=...", "there:1 needs a token; give --token-file FILE or PROGAN_TOKEN"),
        (
            "labels: is missing; the model needs rows of 2 floats",
            "--labels: is missing; the model needs rows of 2 floats",
        ),
        ("latents: number of columns is 17; must be 16", "--latents: number of columns is 17; must be 16"),
        ("one call gives at most 256, use client.stream", "one call gives at most 256, give fewer --images"),
        ("model 'fruits' has no version 9; it has: 2, 1", "model 'fruits' has no version 9; it has: 2, 1"),
    ],
)
def test_sentences_of_the_service(sentence: str, said: str) -> None:
    assert in_options(sentence) == said
