"""Bearer tokens and the file that they are read from."""

from pathlib import Path

import pytest

from progan_service.errors import ConfigError
from progan_service.serving.access.tokens import read_tokens
from progan_service.serving.errors import Unauthenticated

ALICE, BOB, NEW_BOB = "alices-token-0123456789", "bobs-token-0123456789", "bobs-new-token-0123456789"
UNKNOWN_TOKEN = "the token is not known to this server"
NO_TOKEN = "a token is needed: send the metadata `authorization: Bearer TOKEN`"


def test_a_token_has_the_name_that_its_line_says(tokens: Path) -> None:
    known = read_tokens(tokens)
    assert known.caller([f"Bearer {ALICE}"]) == "alice"
    assert known.caller([f"bearer {BOB}"]) == "bob"


def test_a_name_may_have_two_tokens_while_one_replaces_the_other(tokens: Path) -> None:
    tokens.write_text(f"bob {BOB}\nbob {NEW_BOB}\n")
    known = read_tokens(tokens)
    assert [known.caller([f"Bearer {token}"]) for token in (BOB, NEW_BOB)] == ["bob", "bob"]


@pytest.mark.parametrize(
    ("authorization", "sentence"),
    [
        ([], NO_TOKEN),
        (["Bearer nobodys-token-0123456789"], UNKNOWN_TOKEN),
        (["Bearer "], UNKNOWN_TOKEN),
        ([f"Bearer {ALICE[:-1]}"], UNKNOWN_TOKEN),
        ([f"Bearer {ALICE} "], UNKNOWN_TOKEN),
        (["Bearer alice"], UNKNOWN_TOKEN),
        (["Bearer nobodys-töken-0123456789"], UNKNOWN_TOKEN),
        ([f"Basic {ALICE}"], "authorization must be given once, as `Bearer TOKEN`"),
        ([ALICE], "authorization must be given once, as `Bearer TOKEN`"),
        ([f"Bearer {ALICE}", f"Bearer {ALICE}"], "authorization must be given once, as `Bearer TOKEN`"),
    ],
)
def test_what_is_no_token_is_refused_and_not_repeated(tokens: Path, authorization: list[str], sentence: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        read_tokens(tokens).caller(authorization)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# nobody\n", ": has no token, so that nobody could call; add a line NAME TOKEN"),
        (f"alice {ALICE}\n{BOB}\n", ", line 2: must be NAME TOKEN, two words; has 1"),
        (f"alice {ALICE} # until May\n", ", line 1: must be NAME TOKEN, two words; has 5"),
        (
            "alice short\n",
            ", line 1: the token has 5 characters; must have 16 to 4096 (`openssl rand -hex 32` makes a good one)",
        ),
        (
            f"{ALICE * 2} alice\n",
            ", line 1: the name must have 1 to 32 letters, digits, dots, dashes or underscores",
        ),
        ("alice sécret-0123456789\n", ", line 1: the token may have letters, digits and -._~+/= only"),
        (f"alice {ALICE}\nbob {ALICE}\n", ", line 2: has the same token as line 1"),
    ],
)
def test_a_broken_file_of_tokens_is_refused_by_line_and_rule_and_none_of_its_words_is_repeated(
    tokens: Path, text: str, problem: str
) -> None:
    tokens.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        read_tokens(tokens)
    assert str(refusal.value) == f"{tokens}{problem}"


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone: cannot be read: No such file or directory"):
        read_tokens(tmp_path / "gone")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match="picture: is not UTF-8 text"):
        read_tokens(tmp_path / "picture")
