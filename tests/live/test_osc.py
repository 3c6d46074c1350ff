"""The strict decoder against garbage, the server's rules on a clock of its own, and real OSC programs."""

import asyncio
import contextlib
import errno
import random
import socket
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from host import osc
from host.osc import Message, OscError, OscServer, decode, encode, is_loopback, serve
from host.registry import Registry
from tests.live.osc_programs import needs_liblo, oscsend, subscribed_oscdump

STEMS = ("vocals", "drums", "bass", "other")
GAIN = "/stem/vocals/gain_db"


# --- decoder --------------------


def built(address, *typed):
    builder = OscMessageBuilder(address)
    for value, kind in typed:
        builder.add_arg(value, kind)
    return builder.build().dgram


def bundle(*elements, when=1):
    packed = b"".join(struct.pack(">i", len(element)) + element for element in elements)
    return b"#bundle\0" + struct.pack(">Q", when) + packed


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_python_osc_builds_is_read_back(name, i, f, s, h, d):
    address = "/" + name
    packet = built(address, (i, "i"), (f, "f"), (s, "s"), (True, "T"), (False, "F"), (h, "h"), (d, "d"))
    assert decode(packet) == [Message(address, (i, f, s, True, False, h, d))]


def test_bundles_are_flattened_in_order_and_dated_ones_act_at_once():
    inner = OscBundleBuilder(time.time() + 3600)
    for value in (2, 3):
        builder = OscMessageBuilder("/inner")
        builder.add_arg(value)
        inner.add_content(builder.build())
    packet = bundle(encode("/a", 1), inner.build().dgram, encode("/b", 4))
    expected = [("/a", 1), ("/inner", 2), ("/inner", 3), ("/b", 4)]
    assert [(message.address, message.arguments[0]) for message in decode(packet)] == expected


def test_a_query_may_come_without_type_tags():
    assert decode(b"/ping\0\0\0") == [Message("/ping")]
    assert decode(b"/ping\0\0\0,\0\0\0") == [Message("/ping")]


def nested(levels):
    packet = encode("/a", 1)
    for _ in range(levels):
        packet = bundle(packet)
    return packet


def test_bundles_nest_four_deep_and_no_deeper():
    assert decode(nested(4)) == [Message("/a", (1,))]
    with pytest.raises(OscError, match="bundle"):
        decode(nested(5))


MALFORMED = {
    "empty": b"",
    "not a multiple of 4": b"/ping\0\0",
    "element size -4 (loops forever in others)": b"#bundle\0" + bytes(8) + struct.pack(">i", -4),
    "element size 0": b"#bundle\0" + bytes(8) + struct.pack(">i", 0),
    "element larger than the bundle": b"#bundle\0" + bytes(8) + struct.pack(">i", 64) + encode("/a", 1),
    "element size not a multiple of 4": b"#bundle\0" + bytes(8) + struct.pack(">i", 5) + b"/a\0\0\0\0\0\0",
    "size without element": b"#bundle\0" + bytes(8) + struct.pack(">i", 8),
    "400 nested bundles": nested(400),
    "bundle without time tag": b"#bundle\0" + bytes(4),
    "over 8 kB": encode("/a", "x" * 8192),
    "truncated float": b"/a\0\0,f\0\0",
    "truncated double": b"/a\0\0,d\0\0" + bytes(4),
    "string without end": b"/a\0\0,s\0\0abcd",
    "address without end": b"/abc",
    "dirty padding": b"/a\0x,i\0\0" + bytes(4),
    "dirty padding of a string": b"/a\0\0,s\0\0a\0\0x",
    "trailing bytes": encode("/a", 1) + bytes(4),
    "no slash": b"abc\0,\0\0\0",
    "address not ASCII": "/é".encode() + b"\0" + b",\0\0\0",
    "string not UTF-8": b"/a\0\0,s\0\0\xff\xfe\0\0",
    "type tags without comma": b"/a\0\0fi\0\0" + bytes(8),
    "blob": b"/a\0\0,b\0\0" + bytes(4),
    "unknown type": b"/a\0\0,Q\0\0",
    "NaN": b"/a\0\0,f\0\0" + struct.pack(">f", float("nan")),
    "infinite": b"/a\0\0,d\0\0" + struct.pack(">d", float("-inf")),
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_packets_are_refused(packet):
    with pytest.raises(OscError):
        decode(packet)


def test_a_bundle_with_one_bad_element_is_dropped_as_a_whole():
    with pytest.raises(OscError):
        decode(bundle(encode(GAIN, -6.0), MALFORMED["NaN"]))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(packet):
    with contextlib.suppress(OscError):
        decode(packet)


# --- rules, on a clock that only the test moves --------------------


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still unless it is moved."""

    now = 1000.0

    def time(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds
        self.run_until_complete(asyncio.sleep(0))
        self.run_until_complete(asyncio.sleep(0))


class Wire:
    """A transport that keeps what was sent, decoded, by target."""

    def __init__(self):
        self.sent = {}

    def is_closing(self):
        return False

    def sendto(self, data, target):
        self.sent.setdefault(target, []).extend((m.address, *m.arguments) for m in decode(data))

    def take(self, target):
        return self.sent.pop(target, [])


class Stage:
    """A server without a socket; surfaces are names."""

    def __init__(self):
        self.loop, self.wire, self.registry = StillLoop(), Wire(), Registry(STEMS)
        self.refusals = []
        self.server = OscServer(self.registry, self.refusals.append)
        self.server.connection_made(self.wire)

    def send(self, source, address, *arguments):
        self.packet(source, encode(address, *arguments))

    def packet(self, source, data):
        async def receive():
            self.server.datagram_received(data, source)

        self.loop.run_until_complete(receive())

    def subscribe(self, *sources):
        for source in sources:
            self.send(source, "/subscribe")
            self.wire.take(source)


A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.loop.close()


def test_ping_is_answered_to_the_sender(stage):
    stage.send(A, "/ping")
    assert stage.wire.sent == {A: [("/pong",)]}


def test_a_path_without_arguments_asks_for_its_value(stage):
    stage.registry.set(GAIN, -12.0)
    stage.registry.report("latency_ms", 20.0)
    for path in (GAIN, "/bypass", "/fallback", "/status/latency_ms", "/preset/load"):
        stage.send(A, path)
    assert stage.wire.take(A) == [
        (GAIN, -12.0),
        ("/bypass", 0),
        ("/fallback", "dry"),
        ("/status/latency_ms", 20.0),
        ("/preset/load", ""),
    ]


def test_changes_reach_subscribers_but_not_their_writer_nor_strangers(stage):
    stage.subscribe(A, B)
    stage.send(A, GAIN, -6.0)
    stage.send(C, "/bypass", 1)
    assert stage.wire.take(A) == [("/bypass", 1)]
    assert stage.wire.take(B) == [(GAIN, -6.0), ("/bypass", 1)]
    assert stage.wire.take(C) == []


def test_a_new_subscriber_is_told_every_value_a_renewing_one_is_not(stage):
    stage.send(A, "/subscribe")
    said = stage.wire.take(A)
    assert said[0] == ("/subscribe", 60)
    assert {path for path, *_ in said[1:]} == set(stage.registry.controls)
    stage.send(A, "/subscribe", 1)
    assert stage.wire.take(A) == [("/subscribe", 60)]


def test_the_writer_hears_one_settled_value_300_ms_after_its_last_write(stage):
    stage.subscribe(A, B)
    for value in (-1.0, -2.0, 77.0):
        stage.send(A, GAIN, value)
        stage.loop.advance(0.2)
    stage.send(B, GAIN, -3.0)
    assert stage.wire.take(A) == []
    stage.loop.advance(0.09)
    assert stage.wire.take(A) == []
    stage.loop.advance(0.02)
    assert stage.wire.take(A) == [(GAIN, -3.0)]
    stage.loop.advance(5.0)
    assert stage.wire.take(A) == []
    stage.send(B, GAIN, -4.0)
    assert stage.wire.take(A) == [(GAIN, -4.0)]


def test_the_hold_is_for_the_written_path_only(stage):
    stage.subscribe(A)
    stage.send(A, GAIN, -1.0)
    stage.send(B, "/stem/drums/gain_db", -2.0)
    assert stage.wire.take(A) == [("/stem/drums/gain_db", -2.0)]


def test_a_clamped_fader_springs_to_where_it_is(stage):
    stage.subscribe(A)
    stage.send(A, GAIN, 99.0)
    stage.loop.advance(0.31)
    assert stage.wire.take(A) == [(GAIN, 10.0)]


def test_the_writer_of_a_preset_hears_the_switches_it_moved(stage):
    stage.subscribe(A)
    stage.send(A, "/preset/load", "karaoke")
    assert stage.wire.take(A) == [("/stem/vocals/mute", 1)]


def test_subscriptions_end_after_60_s_and_on_request(stage):
    stage.subscribe(A, B)
    stage.loop.advance(59.0)
    stage.subscribe(B)
    stage.loop.advance(2.0)
    stage.send(C, GAIN, -1.0)
    assert (stage.wire.take(A), stage.wire.take(B)) == ([], [(GAIN, -1.0)])
    stage.send(B, "/subscribe", 0)
    stage.send(C, GAIN, -2.0)
    assert stage.wire.take(B) == [("/subscribe", 0)]


def test_the_number_of_subscribers_is_capped_and_places_come_free(stage):
    crowd = [("10.0.1.1", port) for port in range(osc.MAX_SUBSCRIBERS)]
    stage.subscribe(*crowd)
    stage.send(A, "/subscribe")
    assert stage.wire.take(A) == [("/subscribe", 0)]
    stage.loop.advance(61.0)
    stage.send(A, "/subscribe")
    assert stage.wire.take(A)[0] == ("/subscribe", 60)


@pytest.mark.parametrize(
    ("address", "arguments", "reason"),
    [
        ("/stem/guitar/mute", (1,), "there is no control"),
        ("/stem/guitar/mute", (), "there is no control"),
        (GAIN, ("loud",), "takes a number"),
        (GAIN, (1.0, 2.0), "takes one value, not 2"),
        ("/preset/load", ("polka",), "takes one of karaoke"),
        ("/status/load", (1.0,), "can only be read"),
        ("/" + "*" * 100, (1,), "there is no control"),
    ],
)
def test_refused_messages_are_answered_and_change_nothing(stage, address, arguments, reason):
    before = dict(stage.registry.values)
    stage.send(A, address, *arguments)
    ((path, about, said),) = stage.wire.take(A)
    assert (path, about) == ("/error", address)
    assert reason in said and stage.refusals == [said]
    assert stage.registry.values == before


def test_errors_are_never_answered_with_errors(stage):
    stage.send(A, "/error", "/x", "no")
    assert (stage.wire.sent, stage.server.refused_messages) == ({}, 1)


def test_malformed_packets_are_counted_and_change_nothing(stage):
    before = dict(stage.registry.values)
    for packet in MALFORMED.values():
        stage.packet(A, packet)
    assert stage.server.malformed_packets == len(MALFORMED)
    assert (stage.wire.sent, stage.registry.values) == ({}, before)


def test_closing_stops_timers_and_feedback(stage):
    stage.subscribe(A)
    stage.send(A, GAIN, -1.0)
    stage.wire.close = lambda: None
    stage.server.close()
    stage.loop.advance(1.0)
    stage.registry.set("/bypass", 1)
    assert stage.wire.sent == {}


# --- real sockets and real programs --------------------


class LiveServer:
    """A server on a free port, in a thread with its own event loop."""

    def __enter__(self):
        self.registry = Registry(STEMS)
        self.server = OscServer(self.registry)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        opened = asyncio.run_coroutine_threadsafe(serve(self.server, "127.0.0.1", 0), self._loop)
        self.port = opened.result(10)
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self.server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def live():
    with LiveServer() as server:
        yield server


@pytest.fixture
def surface(live):
    """A connected client socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", live.port))
        yield client


def ask(client, address, *arguments):
    client.send(encode(address, *arguments))
    (message,) = decode(client.recv(8192))
    return message


def test_ten_thousand_malformed_packets_lose_no_probe(live, surface):
    rng = random.Random(1)
    samples = list(MALFORMED.values())
    sent = 0
    while sent < 10_000:
        for _ in range(50):
            noise = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 64)))
            surface.send(rng.choice([noise, rng.choice(samples)]))
        sent += 50
        assert ask(surface, "/ping") == Message("/pong")
    assert live.server.malformed_packets == sent
    assert live.registry.values == Registry(STEMS).values


def test_writes_arrive_in_the_order_they_were_sent(live, surface):
    seen = []
    live.registry.listen(lambda path, value, writer: seen.append(value))
    expected = [round(-90 + 0.05 * step, 2) for step in range(1, 1001)]
    for start in range(0, 1000, 50):
        for value in expected[start : start + 50]:
            surface.send(encode(GAIN, value))
        ask(surface, "/ping")
    assert seen == pytest.approx(expected, abs=1e-4)
    assert seen == sorted(seen) and len(seen) == 1000


def test_a_taken_port_is_said_in_one_line(live):
    async def second():
        await serve(OscServer(Registry(STEMS)), "127.0.0.1", live.port)

    with pytest.raises(OscError, match=rf"127\.0\.0\.1:{live.port} .*choose another port") as refusal:
        asyncio.run(second())
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 99999, "0-65535"),
        ("192.0.2.1", 0, "192.0.2.1 is no address of this machine"),
        ("no such host.invalid", 0, "is no address of this machine"),
    ],
)
def test_an_impossible_address_is_said_in_one_line(host, port, reason):
    with pytest.raises(OscError, match=rf"^OSC can not listen on [^\n]*{reason}[^\n]*$") as refusal:
        asyncio.run(serve(OscServer(Registry(STEMS)), host, port))
    assert "in use" not in str(refusal.value)


def test_a_port_that_is_not_permitted_is_said(monkeypatch):
    def refuse(*_address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(OscError, match=r"127\.0\.0\.1:80 \(not permitted\): choose a port above 1023"):
        asyncio.run(serve(OscServer(Registry(STEMS)), "127.0.0.1", 80))


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("studio.local", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, alone):
    assert is_loopback(host) is alone


@needs_liblo
def test_oscsend_turns_every_kind_of_control(live, surface):
    for words in (
        (GAIN, "f", "-6.5"),
        ("/stem/drums/mute", "i", "1"),
        ("/stem/bass/solo", "T"),
        ("/output/gain_db", "i", "-3"),
        ("/fallback", "s", "silence"),
        ("/bypass", "f", "1"),
    ):
        oscsend(live.port, *words)
    ask(surface, "/ping")
    values = live.registry.values
    assert values[GAIN] == -6.5 and values["/output/gain_db"] == -3.0
    assert [values[f"/stem/{p}"] for p in ("drums/mute", "bass/solo", "vocals/mute")] == [True, True, False]
    assert (values["/fallback"], values["/bypass"]) == ("silence", True)
    assert live.server.malformed_packets == live.server.refused_messages == 0


@needs_liblo
def test_oscdump_shows_the_feedback(live):
    with subscribed_oscdump(live.port) as dump:
        oscsend(live.port, "/preset/load", "s", "karaoke")
        oscsend(live.port, GAIN, "f", "-12")
        assert dump.shown(3) == [
            ["/stem/vocals/mute", "i", "1"],
            ["/preset/load", "s", '"karaoke"'],
            [GAIN, "f", "-12.000000"],
        ]
