"""Bearer tokens and the file that they are read from."""

from pathlib import Path

import pytest

from progan_service.errors import ConfigError
from progan_service.serving.access.tokens import read_tokens
from progan_service.serving.errors import Unauthenticated
from progan_service.serving.rights import Quota, Rights

ALICE, BOB, NEW_BOB = "alices-token-0123456789", "bobs-token-0123456789", "bobs-new-token-0123456789"
UNKNOWN_TOKEN = "the token is not known to this server"
NO_TOKEN = "a token is needed: send `authorization: Bearer TOKEN` with the call"


def test_a_token_has_the_name_that_its_line_says(tokens: Path) -> None:
    known = read_tokens(tokens)
    assert known.caller([f"Bearer {ALICE}"]).name == "alice"
    assert known.caller([f"bearer {BOB}"]).name == "bob"


def test_a_name_may_have_two_tokens_while_one_replaces_the_other(tokens: Path) -> None:
    tokens.write_text(f"bob {BOB}\nbob {NEW_BOB}\n")
    known = read_tokens(tokens)
    assert [known.caller([f"Bearer {token}"]).name for token in (BOB, NEW_BOB)] == ["bob", "bob"]


@pytest.mark.parametrize("sent", [f" Bearer {ALICE}", f"Bearer  {ALICE}", f"Bearer {ALICE} ", f"  bearer   {ALICE}  "])
def test_blanks_around_the_words_do_not_count(tokens: Path, sent: str) -> None:
    assert read_tokens(tokens).caller([sent]).name == "alice"


@pytest.mark.parametrize(
    ("authorization", "sentence"),
    [
        ([], NO_TOKEN),
        (["Bearer nobodys-token-0123456789"], UNKNOWN_TOKEN),
        (["Bearer "], UNKNOWN_TOKEN),
        ([f"Bearer {ALICE[:-1]}"], UNKNOWN_TOKEN),
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
        (f"alice {ALICE}\n{BOB}\n", ", line 2: must be NAME TOKEN; has one word"),
        (
            f"alice {ALICE} # until May\n",
            ", line 1: word 3 must begin with models=, images_per_s= or images_at_once=",
        ),
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


# --- rights ---


def rights(tokens: Path, words: str) -> Rights:
    tokens.write_text(f"alice {ALICE} {words}\n")
    return read_tokens(tokens).caller([f"Bearer {ALICE}"]).rights


def test_without_words_a_token_has_all_rights(tokens: Path) -> None:
    assert rights(tokens, "") == Rights(models=None, quota=None)


def test_words_say_which_models_and_how_many_images(tokens: Path) -> None:
    assert rights(tokens, "models=faces,churches") == Rights(frozenset({"faces", "churches"}))
    assert rights(tokens, "images_per_s=50 images_at_once=200") == Rights(quota=Quota(50, 200))
    assert rights(tokens, "images_at_once=1 models=faces images_per_s=0.5") == Rights(
        frozenset({"faces"}), Quota(0.5, 1)
    )


def test_without_more_a_caller_has_the_images_of_a_second_at_once(tokens: Path) -> None:
    assert rights(tokens, "images_per_s=2.5") == Rights(quota=Quota(2.5, 3))
    assert rights(tokens, "images_per_s=0.1") == Rights(quota=Quota(0.1, 1))


def test_tokens_of_one_name_have_the_same_rights(tokens: Path) -> None:
    tokens.write_text(f"bob {BOB} images_per_s=5\nbob {NEW_BOB} images_per_s=5.0\n")
    assert read_tokens(tokens).quotas == {"bob": Quota(images_per_s=5, images_at_once=5)}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("models=", "models=: must be names of models, separated by commas; '' is none"),
        ("models=faces,", "models=faces,: must be names of models, separated by commas; '' is none"),
        ("models=faces;cats", "models=faces;cats: must be names of models, separated by commas; 'faces;cats' is none"),
        ("models=faces models=cats", "models is given twice"),
        ("images_per_s=fast", "images_per_s=fast: must be a number from 0.001 to 1000000"),
        ("images_per_s=0", "images_per_s=0: must be a number from 0.001 to 1000000"),
        ("images_per_s=nan", "images_per_s=nan: must be a number from 0.001 to 1000000"),
        ("images_per_s=inf", "images_per_s=inf: must be a number from 0.001 to 1000000"),
        ("images_per_s=-1", "images_per_s=-1: must be a number from 0.001 to 1000000"),
        ("images_at_once=5", "images_at_once needs images_per_s, too"),
        ("images_per_s=5 images_at_once=0", "images_at_once=0: must be a whole number from 1 to 1000000"),
        ("images_per_s=5 images_at_once=2.5", "images_at_once=2.5: must be a whole number from 1 to 1000000"),
        ("images_per_s=5 images_at_once=²", "images_at_once=²: must be a whole number from 1 to 1000000"),
        ("images_per_s=5 images_at_once=1000001", "images_at_once=1000001: must be a whole number from 1 to 1000000"),
        ("model=faces", "word 3 must begin with models=, images_per_s= or images_at_once="),
        ("models=faces secret", "word 4 must begin with models=, images_per_s= or images_at_once="),
    ],
)
def test_words_that_are_no_rights_are_refused_by_line_word_and_rule(tokens: Path, words: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        rights(tokens, words)
    assert str(refusal.value) == f"{tokens}, line 1: {problem}"


def test_a_name_with_two_rights_is_refused(tokens: Path) -> None:
    tokens.write_text(f"bob {BOB}\n# new\nbob {NEW_BOB} models=faces\n")
    with pytest.raises(ConfigError, match="line 3: has the same name as line 1, and must have the same rights"):
        read_tokens(tokens)


def test_a_missing_file_and_one_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone: cannot be read: No such file or directory"):
        read_tokens(tmp_path / "gone")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match="picture: is not UTF-8 text"):
        read_tokens(tmp_path / "picture")
