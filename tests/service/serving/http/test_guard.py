"""Which web pages may use a server."""

import pytest

from progan_service.serving.http.guard import Guard

HERE = "localhost:8501"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:8501", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8501", True),
        ("127.9.9.9", True),
        ("[::1]:8501", True),
        ("progan.localhost:8501", True),
        ("localhost.:8501", True),
        ("", True),  # no browser leaves it out
        ("evil.example:8501", False),
        ("localhost.evil.example", False),
        ("10.0.0.5:8501", False),
        ("[::2]:8501", False),
        ("[::1", False),
        ("@:", False),
    ],
)
def test_a_server_for_one_machine_answers_to_its_names_only(host: str, answered: bool) -> None:
    assert (Guard(only_local=True).problem({"Host": host}) == "") == answered
    assert Guard(only_local=False).problem({"Host": host}) == ""


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),  # no browser
        ({"Origin": "http://localhost:8501"}, True),
        ({"Origin": "https://LOCALHOST:8501"}, True),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),  # typed by the user
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),  # another port of this machine
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://images.example"}, True),  # a proxy has replaced the Host
    ],
)
def test_a_page_of_another_origin_is_refused(headers: dict[str, str], answered: bool) -> None:
    assert (Guard(only_local=True).problem({"Host": HERE, **headers}) == "") == answered


def test_a_refusal_says_what_to_do() -> None:
    assert Guard(only_local=True).problem({"Host": "evil.example"}) == (
        "Host is 'evil.example'; without TLS and tokens this server answers on its own machine only, "
        "as localhost or 127.0.0.1"
    )
    assert Guard(only_local=False).problem({"Host": HERE, "Origin": "http://evil.example"}) == (
        "a page of http://evil.example may not use this server, which is 'localhost:8501'; a proxy must keep the Host"
    )
