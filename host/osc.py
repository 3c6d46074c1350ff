"""Open Sound Control over UDP: a strict decoder, and the server that joins surfaces to the registry.

Addresses are matched exactly (no patterns), time tags are ignored (a bundle acts at once, as one change), and
whatever is not well-formed is counted and dropped. Replies and feedback go to a packet's source address only.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import math
import socket
import struct
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import cast

from pythonosc.osc_message_builder import OscMessageBuilder

from host.registry import ControlError, Registry, Value

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9100
MAX_PACKET_BYTES = 8192
MAX_DEPTH = 4
MAX_SUBSCRIBERS = 32
SUBSCRIPTION_S = 60
ECHO_HOLD_S = 0.3
RECEIVE_BUFFER_BYTES = 1 << 21

Address = tuple[str, int]
Argument = bool | int | float | str
NUMBERS = {"i": ">i", "f": ">f", "h": ">q", "d": ">d"}


class OscError(ValueError):
    """A packet that is not well-formed OSC, or uses a part of OSC that is not served here."""


@dataclass(frozen=True)
class Message:
    """One decoded message."""

    address: str
    arguments: tuple[Argument, ...] = ()


def decode(packet: bytes, depth: int = 0) -> list[Message]:
    """All messages of a packet in their order, bundles flattened; OscError unless every byte is right.

    Threads: any.
    """
    if len(packet) > MAX_PACKET_BYTES or len(packet) % 4 or len(packet) < 4:
        raise OscError("size")
    if packet.startswith(b"#bundle\0"):
        return [message for element in _elements(packet, depth) for message in decode(element, depth + 1)]
    return [_message(packet)]


def _elements(bundle: bytes, depth: int) -> Iterator[bytes]:
    """The elements of a bundle; the time tag at bytes 8 to 16 is ignored."""
    if depth >= MAX_DEPTH or len(bundle) < 16:
        raise OscError("bundle")
    at = 16
    while at < len(bundle):
        size = int.from_bytes(bundle[at : at + 4], "big", signed=True)
        if size < 4 or at + 4 + size > len(bundle):
            raise OscError("element size")
        yield bundle[at + 4 : at + 4 + size]
        at += 4 + size


def _message(data: bytes) -> Message:
    address, at = _string(data, 0)
    if not address.startswith("/") or not address.isascii():
        raise OscError("address")
    if at == len(data):
        return Message(address)  # X32-style queries come without the type tag string
    tags, at = _string(data, at)
    if not tags.startswith(","):
        raise OscError("type tags")
    arguments = []
    for tag in tags[1:]:
        argument, at = _argument(tag, data, at)
        arguments.append(argument)
    if at != len(data):
        raise OscError("trailing bytes")
    return Message(address, tuple(arguments))


def _string(data: bytes, at: int) -> tuple[str, int]:
    """A string and where it ends: closed by 1 to 4 zero bytes up to a multiple of 4."""
    end = data.find(b"\0", at)
    after = end // 4 * 4 + 4
    if end < 0 or after > len(data) or any(data[end:after]):
        raise OscError("string padding")
    try:
        return data[at:end].decode(), after
    except UnicodeDecodeError:
        raise OscError("string encoding") from None


def _argument(tag: str, data: bytes, at: int) -> tuple[Argument, int]:
    if tag in "TF":
        return tag == "T", at
    if tag == "s":
        return _string(data, at)
    if tag not in NUMBERS:
        raise OscError("type")
    try:
        (number,) = struct.unpack_from(NUMBERS[tag], data, at)
    except struct.error:
        raise OscError("truncated") from None
    if not math.isfinite(number):
        raise OscError("not finite")
    return number, at + struct.calcsize(NUMBERS[tag])


def encode(address: str, *arguments: Argument) -> bytes:
    """One message as bytes. Switches go out as the integers 1 and 0, which every surface reads."""
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(int(argument) if isinstance(argument, bool) else argument)
    return builder.build().dgram


class OscServer(asyncio.DatagramProtocol):
    """Writes, queries and subscriptions of OSC surfaces.

    - `path value` writes a control; a refused write is answered with `/error path reason`.
    - `path` without argument is answered with the value on the same path.
    - `/ping` is answered with `/pong`.
    - `/subscribe` (or `/subscribe 1`) is answered with `/subscribe 60`, the seconds it lasts, and by every
      value once; sending it again renews it. `/subscribe 0` ends it, answered with `/subscribe 0`; so is the
      one that finds `MAX_SUBSCRIBERS` others there.
    - Every change goes to all subscribers but its writer. The writer hears of a path again once it has left
      it alone for 300 ms: the one value that was settled on.

    Threads: the event loop's.
    """

    def __init__(self, registry: Registry, on_refused: Callable[[str], None] = lambda reason: None) -> None:
        self.malformed_packets = 0
        self.refused_messages = 0
        self._registry = registry
        self._on_refused = on_refused
        self._subscribers: dict[Address, float] = {}
        self._held: dict[tuple[Address, str], asyncio.TimerHandle] = {}
        self._transport: asyncio.DatagramTransport | None = None
        registry.listen(self._changed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        source = cast(Address, addr)
        try:
            messages = decode(data)
        except OscError:
            self.malformed_packets += 1
            return
        for message in messages:
            self._handle(message, source)

    def close(self) -> None:
        """Forget all subscribers and close the socket."""
        for handle in self._held.values():
            handle.cancel()
        self._held.clear()
        self._subscribers.clear()
        if self._transport is not None:
            self._transport.close()

    def _handle(self, message: Message, source: Address) -> None:
        try:
            if message.address == "/ping":
                self._send(source, "/pong")
            elif message.address == "/subscribe":
                self._subscribe(source, message.arguments)
            elif not message.arguments:
                self._send(source, message.address, self._registry.get(message.address))
            else:
                self._write(source, message)
        except ControlError as error:
            self._refuse(source, message.address, str(error))

    def _write(self, source: Address, message: Message) -> None:
        if len(message.arguments) != 1:
            raise ControlError(f"{message.address:.80} takes one value, not {len(message.arguments)}")
        if source in self._subscribers:
            self._hold_echo(source, self._registry.control(message.address).path)
        self._registry.set(message.address, message.arguments[0], source)

    def _refuse(self, source: Address, address: str, reason: str) -> None:
        self.refused_messages += 1
        if address == "/error":
            return  # two servers that answered each other's errors would never stop
        self._on_refused(reason)
        self._send(source, "/error", address, reason)

    def _subscribe(self, source: Address, arguments: tuple[Argument, ...]) -> None:
        now = asyncio.get_running_loop().time()
        self._subscribers = {who: until for who, until in self._subscribers.items() if until > now}
        known = source in self._subscribers
        full = not known and len(self._subscribers) >= MAX_SUBSCRIBERS
        if full or arguments[:1] == (0,):
            self._subscribers.pop(source, None)
            self._send(source, "/subscribe", 0)
            return
        self._subscribers[source] = now + SUBSCRIPTION_S
        self._send(source, "/subscribe", SUBSCRIPTION_S)
        if not known:
            for path, value in self._registry.values.items():
                self._send(source, path, value)

    def _hold_echo(self, source: Address, path: str) -> None:
        if handle := self._held.get((source, path)):
            handle.cancel()
        loop = asyncio.get_running_loop()
        self._held[source, path] = loop.call_later(ECHO_HOLD_S, self._settle, source, path)

    def _settle(self, source: Address, path: str) -> None:
        del self._held[source, path]
        self._feed_back(source, path, self._registry.get(path))

    def _changed(self, path: str, value: Value, writer: Hashable) -> None:
        for subscriber in self._subscribers:
            if subscriber != writer and (subscriber, path) not in self._held:
                self._feed_back(subscriber, path, value)

    def _feed_back(self, subscriber: Address, path: str, value: Value) -> None:
        if self._subscribers.get(subscriber, 0.0) > asyncio.get_running_loop().time():
            self._send(subscriber, path, value)

    def _send(self, target: Address, address: str, *arguments: Argument) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(encode(address, *arguments), target)


async def serve(server: OscServer, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> int:
    """Open the socket and return its port (port 0 takes a free one).

    Raises
    ------
    OscError
        One line with the reason if it cannot listen there.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=(host, port))
    except (OSError, OverflowError) as error:
        raise OscError(f"OSC can not listen on {host}:{port} {_why_not(error, host)}") from None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return int(transport.get_extra_info("sockname")[1])


def _why_not(error: Exception, host: str) -> str:
    """Why a socket could not be opened, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return "(in use): close the program that listens there, or choose another port"
    if number in (errno.EACCES, errno.EPERM):
        return "(not permitted): choose a port above 1023"
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"({host} is no address of this machine): choose 127.0.0.1 or one that it has"
    return f"({error.args[-1]}): choose another address or port"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name but `localhost` counts as reachable by others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
