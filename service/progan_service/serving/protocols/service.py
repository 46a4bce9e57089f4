"""A protocol, as the transports see it: its rpcs, and who answers them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

Reply = Message | bytes


@dataclass(frozen=True)
class Service:
    """The rpcs of a protocol, which any transport may carry.

    servicer   has a method for each rpc, which takes the request and its Call and returns the reply, or yields replies.
               A reply is a message, or the bytes of one. When the next one is asked for, the last one has been sent.
               If the caller sends a stream, the method takes an iterator of requests, and lets each through the gate
    limit      returns the most bytes that a request of this rpc needs; None: as many as the server takes
    health     rpcs that are answered while the server drains, too
    """

    descriptor: ServiceDescriptor
    servicer: object
    limit: Callable[[str], int | None] = lambda rpc: None
    health: Collection[str] = ()
