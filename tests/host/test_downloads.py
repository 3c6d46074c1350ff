"""Downloads from a server that truncates, stalls, redirects and lies: whole files or one clear line."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.downloads import DownloadError, Patience, check_address, download
from tests.host.file_server import FileServer, Misbehaviour, never, serving

CONTENT = random.Random(4).randbytes(300_000)
CAP = 1_000_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer(CONTENT)) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.ckpt"


def fetch(
    server: FileServer, target: Path, most: int = CAP, exact: int = 0, attempts: int = 4, stall: float = 20.0
):
    pauses: list[float] = []
    done: list[float] = []
    patience = Patience(stall, attempts, 1.0, never(pauses))
    download(server.address, target, most, exact, done.append, patience)
    return pauses, done


def is_whole(target: Path) -> bool:
    """Whether the file is there and nothing lies beside it."""
    return target.read_bytes() == CONTENT and [p.name for p in target.parent.iterdir()] == [target.name]


def test_a_file_arrives_and_progress_is_told(server: FileServer, target: Path) -> None:
    pauses, done = fetch(server, target)
    assert is_whole(target) and server.ranges == [None] and pauses == []
    assert done == sorted(done) and done[-1] == 1.0


def test_a_truncated_answer_goes_on_where_it_broke(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(stop_after=100_000), Misbehaviour(stop_after=50_000)]
    pauses, done = fetch(server, target)
    assert is_whole(target)
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert server.conditions == [None, '"one"', '"one"']
    assert pauses == [1.0, 2.0] and done == sorted(done)


def test_a_stall_ends_the_attempt_and_not_the_download(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(stall_after=120_000)]
    fetch(server, target, stall=0.4)
    assert is_whole(target) and server.ranges == [None, "bytes=120000-"]


def test_a_trickle_ends_the_attempt_like_a_stall(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(trickle_after=20)]
    fetch(server, target, stall=0.5)
    first, second = server.ranges
    assert is_whole(target) and first is None and 20 < int(second[6:-1]) < 620


def test_a_later_run_goes_on_where_an_earlier_one_broke(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(stop_after=90_000)]
    with pytest.raises(DownloadError, match=r"broke off again and again .* what arrived is kept"):
        fetch(server, target, attempts=1)
    assert not target.exists()
    fetch(server, target)
    assert is_whole(target) and server.ranges == [None, "bytes=90000-"]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: FileServer, target: Path) -> None:
    server.content, server.tag = b"old" * 60_000, '"old"'
    server.answers = [Misbehaviour(stop_after=90_000)]
    with pytest.raises(DownloadError):
        fetch(server, target, attempts=1)
    server.content, server.tag = CONTENT, '"one"'
    fetch(server, target)
    assert is_whole(target) and server.ranges == [None, "bytes=90000-"]


def test_without_a_mark_nothing_is_resumed(server: FileServer, target: Path) -> None:
    for tag in ("", 'W/"weak"'):
        server.ranges.clear()
        server.answers = [Misbehaviour(stop_after=90_000, tag=tag)]
        fetch(server, target)
        assert is_whole(target) and server.ranges == [None, None]


def test_a_server_without_ranges_begins_anew(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(stop_after=90_000), Misbehaviour(ranges=False)]
    fetch(server, target)
    assert is_whole(target) and server.ranges == [None, "bytes=90000-"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(stop_after=90_000), Misbehaviour(status=416)]
    fetch(server, target)
    assert is_whole(target) and server.ranges == [None, "bytes=90000-", None]


def test_a_length_that_is_too_long_is_found_out(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(length=len(CONTENT) + 10, tag="") for _ in range(3)]
    with pytest.raises(DownloadError, match="broke off again and again"):
        fetch(server, target, attempts=3)
    assert not target.exists()


def test_a_length_that_is_not_the_one_on_record_is_refused_at_once(server: FileServer, target: Path) -> None:
    with pytest.raises(DownloadError, match="has 300000 bytes, but 300001 are on record"):
        fetch(server, target, exact=300_001)
    server.answers = [Misbehaviour(length=20)]
    with pytest.raises(DownloadError, match="has 20 bytes, but 300000 are on record"):
        fetch(server, target, exact=300_000)
    assert list(target.parent.iterdir()) == [] and len(server.ranges) == 2


def test_the_cap_holds_with_a_length_and_without(server: FileServer, target: Path) -> None:
    with pytest.raises(DownloadError, match="has 300000 bytes, more than the 299999"):
        fetch(server, target, most=299_999)
    server.answers = [Misbehaviour(stated=False)]
    with pytest.raises(DownloadError, match="sends more than it should"):
        fetch(server, target, most=200_000)
    assert list(target.parent.iterdir()) == []
    server.answers = [Misbehaviour(stated=False)]
    fetch(server, target)
    assert is_whole(target)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_later(server: FileServer, target: Path, status: int) -> None:
    server.answers = [Misbehaviour(status=status)] * 3
    pauses, _ = fetch(server, target)
    assert is_whole(target) and pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: FileServer, target: Path, status: int) -> None:
    server.answers = [Misbehaviour(status=status)]
    with pytest.raises(DownloadError, match=f"answered {status}") as caught:
        fetch(server, target)
    assert len(server.ranges) == 1 and "\n" not in str(caught.value)


def test_patience_ends(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(status=503)] * 9
    with pytest.raises(DownloadError, match=r"again and again .the server answered 503"):
        fetch(server, target)
    assert len(server.ranges) == 4


def test_a_compressed_answer_is_refused(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(encoding="gzip")]
    with pytest.raises(DownloadError, match="another encoding"):
        fetch(server, target)


def test_redirects_are_followed_to_the_file(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(redirect="/elsewhere"), Misbehaviour(redirect=server.address)]
    fetch(server, target)
    assert is_whole(target)


@pytest.mark.parametrize(
    ("leads_to", "message"),
    [
        ("http://example.org/x", "only https"),
        ("ftp://127.0.0.1/x", "only https"),
        ("file:///etc/passwd", "only https"),
        ("http://[bad/x", "an address that is none|again and again"),
        ("https://exa mple.org:port/", "an address that is none|again and again"),
    ],
)
def test_redirects_to_forbidden_places_are_refused(
    server: FileServer, target: Path, leads_to: str, message: str
) -> None:
    server.answers = [Misbehaviour(redirect=leads_to)] * 9
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(server, target)
    assert not target.exists() and "\n" not in str(caught.value)


def test_redirects_that_do_not_end_are_refused(server: FileServer, target: Path) -> None:
    server.answers = [Misbehaviour(redirect="/again")] * 20
    with pytest.raises(DownloadError, match="redirects more than 5 times"):
        fetch(server, target)
    assert len(server.ranges) == 6


ADDRESSES = [
    "http://example.org/a",
    "ftp://example.org/a",
    "//example.org/a",
    "a.ckpt",
    "",
    "https:///a",
    "https://",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_https_is_fetched(address: str, target: Path) -> None:
    with pytest.raises(DownloadError, match="only https"):
        download(address, target, CAP)


def test_an_address_elsewhere_cannot_lead_to_this_machine() -> None:
    for address in ("http://127.0.0.1:1/a", "https://localhost/a", "http://[::1]/a"):
        assert check_address(address, from_here=True) == address
        with pytest.raises(DownloadError, match="only https"):
            check_address(address, from_here=False)
    assert check_address("https://example.org/a", from_here=False)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with serving(FileServer(b"")) as server:
        address = server.address
    pauses: list[float] = []
    with pytest.raises(DownloadError, match="broke off again and again") as caught:
        download(address, tmp_path / "a", CAP, patience=Patience(1.0, 2, 1.0, never(pauses)))
    assert pauses == [1.0] and "\n" not in str(caught.value)
