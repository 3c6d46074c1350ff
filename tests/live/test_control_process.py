"""The control process as its parent sees it: JSON lines, published records, OSC; killed and started again."""

import io
import json
import socket

import numpy as np
import pytest

from host.child import run_child
from host.control_process import control
from host.osc import Message, decode, encode
from host.registry import Registry
from streaming.health import CALLBACK, CONTROL, LATE_HOPS, XRUNS
from streaming.session import Session, SessionSpec
from streaming.snapshot import PLAN, RESIDUAL
from tests.live.json_child import JsonChild

STEMS = ("vocals", "drums", "bass", "other")
GAIN = "/stem/vocals/gain_db"


@pytest.fixture
def session():
    session = Session.create(SessionSpec(44100, 2, STEMS, 441, 882, (False,) * 4, 44100))
    yield session
    session.close()
    session.unlink()


class Child(JsonChild):
    """A control process on a free port."""

    def __init__(self, session, **options):
        super().__init__("host.control_process", {"port": 0} | options, session)
        self.ready = self.first

    def leave(self):
        """The exit code and the events that were left."""
        code, rest = super().leave()
        return code, [json.loads(line) for line in rest.splitlines()]


@pytest.fixture
def surface():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        yield client


def ask(surface, child, address):
    surface.sendto(encode(address), ("127.0.0.1", child.ready["port"]))
    (message,) = decode(surface.recv(8192))
    return message


def test_ready_tells_port_and_values_and_defaults_are_published(session):
    with Child(session) as child:
        assert child.ready == {
            "event": "ready",
            "port": child.ready["port"],
            "values": Registry(STEMS).values,
        }
        assert session.controls.latest().tobytes() == Registry(STEMS).record().tobytes()
        assert child.leave() == (0, [])


def test_lines_of_the_parent_move_controls(session):
    with Child(session) as child:
        child.tell({"set": GAIN, "value": -90})
        assert child.next_event() == {"event": "changed", "path": GAIN, "value": -90.0}
        child.tell({"preset": "karaoke"})
        assert child.next_event() == {"event": "changed", "path": "/stem/vocals/mute", "value": True}
        assert child.next_event() == {"event": "changed", "path": "/preset/load", "value": "karaoke"}
        row = session.controls.latest()[0]
        assert (row["strip_gain"][0], row["strip_mute"][0], row["strip_mute"][RESIDUAL]) == (0.0, 1, 0)


def test_nonsense_of_the_parent_is_refused_and_survived(session):
    with Child(session) as child:
        for line in ("not json", "[1]", "[" * 100_000, '{"set": "/bypass", "value": NaN}', '{"jump": 1}'):
            child.tell(line)
        reasons = [child.next_event()["reason"] for _ in range(2)]
        assert reasons == ["/bypass takes true or false (1 or 0), not nan", 'there is no message {"jump": 1}']
        child.tell({"preset": "polka"})
        assert "takes one of karaoke" in child.next_event()["reason"]
        assert child.leave() == (0, [])


def test_osc_writes_reach_the_callbacks_record_and_the_terminal(session, surface):
    with Child(session) as child:
        surface.sendto(encode("/stem/residual/mute", 1), ("127.0.0.1", child.ready["port"]))
        assert child.next_event() == {"event": "changed", "path": "/stem/residual/mute", "value": True}
        assert session.controls.latest()[0]["strip_mute"][RESIDUAL] == 1
        assert session.health.seconds_since_beat(CONTROL) < float("inf")


def test_a_bundle_is_one_record(session, surface):
    elements = [encode(f"/stem/{name}/mute", 1) for name in STEMS]
    packed = b"".join(len(element).to_bytes(4, "big") + element for element in elements)
    with Child(session) as child:
        before = session.controls.published
        surface.sendto(b"#bundle\0" + bytes(8) + packed, ("127.0.0.1", child.ready["port"]))
        assert ask(surface, child, "/stem/other/mute") == Message("/stem/other/mute", (1,))
        assert child.next_event()["event"] == "changed"
        assert session.controls.published == before + 1
        assert session.controls.latest()[0]["strip_mute"][:4].all()


def test_a_killed_control_process_comes_back_with_the_faders(session, surface):
    with Child(session) as child:
        child.tell({"set": GAIN, "value": -6.1})
        child.tell({"set": "/fallback", "value": "silence"})
        for _ in range(2):
            child.next_event()
        child.process.kill()
        child.process.wait()
    published = session.controls.published
    with Child(session) as child:
        assert child.ready["values"] == Registry(STEMS).values | {GAIN: -6.1, "/fallback": "silence"}
        assert ask(surface, child, "/fallback") == Message("/fallback", ("silence",))
        assert session.controls.published == published


def test_subscribers_hear_of_status_when_it_changes(session, surface):
    session.plan.publish(np.array([(1, 1067, 1323)], PLAN))
    with Child(session) as child:
        assert ask(surface, child, "/status/latency_ms") == Message("/status/latency_ms", (30.0,))
        surface.sendto(encode("/subscribe"), ("127.0.0.1", child.ready["port"]))
        for _ in range(1 + len(Registry(STEMS).values)):
            surface.recv(8192)
        session.health.counters[CALLBACK, XRUNS] = 3
        assert decode(surface.recv(8192)) == [Message("/status/xruns", (3.0,))]
        session.health.counters[CALLBACK, LATE_HOPS] = 7
        session.health.record_hop(0.0025)
        heard = {decode(surface.recv(8192))[0] for _ in range(2)}
        assert {m.address for m in heard} == {"/status/late_hops", "/status/load"}
        assert ask(surface, child, "/status/load").arguments[0] == pytest.approx(0.25)


def test_a_taken_port_ends_in_one_error_event(session):
    with Child(session) as first, Child(session, port=first.ready["port"]) as second:
        assert second.ready["event"] == "error"
        assert "choose another port" in second.ready["reason"]
        assert second.leave() == (2, [])


def test_a_session_that_is_not_there_ends_in_one_error_event(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"session": "no-such-segment"}\n'))
    assert run_child(control, ["{}"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "error"
