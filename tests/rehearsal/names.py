"""A name server for one name: what a headless Service is to its clients."""

import socket
import struct
import threading
from collections.abc import Callable

_HEADER, _A, _ANSWER = ">HHHHH", 1, ">HHHIH"
_RESPONSE_FLAGS = 0x8580  # an answer, from who knows best
_NAME_OF_QUESTION = 0xC00C
_TTL_S = 1


class NameServer:
    """Answers every question for addresses (UDP, on a free port of loopback) by what `addresses` returns then."""

    def __init__(self, addresses: Callable[[], list[str]]) -> None:
        self._addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            self._socket.sendto(reply(question, self._addresses()), asker)


def reply(question: bytes, addresses: list[str]) -> bytes:
    """Return the reply to a DNS message with one question; only one for IPv4 addresses (A) gets some."""
    end = question.index(b"\0", 12) + 5  # after the name: its type and class
    (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
    found = [socket.inet_aton(address) for address in addresses] if kind == _A else []
    answers = [struct.pack(_ANSWER, _NAME_OF_QUESTION, _A, 1, _TTL_S, 4) + address for address in found]
    header = struct.pack(_HEADER, _RESPONSE_FLAGS, 1, len(answers), 0, 0)
    return question[:2] + header + question[12:end] + b"".join(answers)
