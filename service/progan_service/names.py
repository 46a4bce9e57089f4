r"""Writes names of files so that any reader can show them: a name is bytes, and need be no text.

Each byte of a character that cannot be printed, each byte that is no UTF-8, and each backslash is written as `\xNN`
with two hexadecimal digits: `a\x0ab.png` has a line break. Everything else stays, so a plain name is written as it is.
"""

import re

_SHOWN = 200  # characters of a name in a message


def escaped(name: str) -> str:
    r"""Return the name with `\xNN` for what is no printable text. `unescaped` returns the name again.

    Args:
        name: as Python gives names of files, with surrogates for bytes that are no UTF-8.
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(c if c.isprintable() and c != "\\" else _bytes_of(c) for c in name)


def unescaped(text: str) -> str:
    """Return the name that `escaped` has written as this text."""
    content = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())
    return content.decode("utf-8", "surrogateescape")


def shown(name: object) -> str:
    """Return a name for a message: escaped, and cut in the middle after 200 characters."""
    text = escaped(str(name))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"


def printable(text: str) -> str:
    """Return a text with `\\xNN` for what cannot be printed, such as the escape sequences of a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else _bytes_of(c) for c in text)


def _bytes_of(character: str) -> str:
    try:
        content = character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        content = character.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in content)
