"""Downloads of large files that survive bad networks and distrust the other side.

Only https (http from this very machine), few redirects, every address checked; a cap on the size; time-outs
for stalls; a broken download goes on where it broke, if the server can prove that the file is the same one.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from host.progress import Advance

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
MOST_REDIRECTS = 5
SLOWEST_BYTES_PER_S = 256.0
PROGRESS_BYTES = 1 << 20
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
AGENT = {"User-Agent": "stembridge", "Accept-Encoding": "identity"}


class DownloadError(RuntimeError):
    """A download that cannot be had; one line says which, why and what to do."""


class _BrokenError(Exception):
    """This attempt is over; what arrived is kept and the next one goes on from there."""


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try. `stall_s` without a byte ends an attempt."""

    stall_s: float = 30.0
    attempts: int = 6
    first_pause_s: float = 1.0
    sleep: Callable[[float], None] = field(default=time.sleep)

    def pauses(self) -> Iterator[float]:
        """The pauses between the attempts; each is twice the one before."""
        return (self.first_pause_s * 2**i for i in range(self.attempts - 1))


@dataclass
class _Partial:
    """What has arrived so far, and the mark by which the server knows the file again."""

    path: Path

    @property
    def mark_path(self) -> Path:
        return self.path.with_name(self.path.name + ".mark")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def mark(self, address: str) -> str:
        """The mark to resume with; "" where there is none for this address."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self.mark_path.read_text(encoding="utf-8"))
            return str(kept["mark"]) if kept["address"] == address else ""
        return ""

    def begin(self, address: str, mark: str) -> None:
        """Forget what arrived and keep a new mark."""
        self.path.write_bytes(b"")
        self.mark_path.write_text(json.dumps({"address": address, "mark": mark}), encoding="utf-8")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.mark_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.replace(target)
        self.mark_path.unlink(missing_ok=True)


PATIENT = Patience()


def download(
    address: str,
    target: Path,
    most_bytes: int,
    exact_bytes: int = 0,
    advance: Advance = lambda done: None,
    patience: Patience = PATIENT,
) -> Path:
    """Fetch `address` to `target`, which appears only when it is whole.

    Parameters: `most_bytes`, the cap; `exact_bytes`, the size where it is known, else 0; `advance` is told
    the part that is done, where the server says how much there is.
    What arrived of an interrupted download stays beside the target and is used the next time.
    Errors: DownloadError, OSError. Threads: any, one per target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_of(target)
    timeout = httpx.Timeout(patience.stall_s)
    with httpx.Client(timeout=timeout, headers=AGENT, follow_redirects=False) as client:
        job = _Job(client, address, partial, most_bytes, exact_bytes, advance, patience)
        job.run()
    partial.finish(target)
    return target


def _partial_of(target: Path) -> _Partial:
    return _Partial(target.with_name(target.name + ".part"))


def downloaded_files(target: Path) -> list[Path]:
    """The files that a download to `target` leaves, whole or unfinished."""
    partial = _partial_of(target)
    return [target, partial.path, partial.mark_path]


def check_address(address: str, from_here: bool) -> str:
    """`address`, if it may be fetched from: https, or http from this machine where `from_here` says so.

    Errors: DownloadError.
    """
    with suppress(ValueError):
        parts = urlsplit(address)
        if (parts.scheme == "https" and parts.hostname and parts.hostname not in LOOPBACK) or (
            from_here and parts.scheme in ("http", "https") and parts.hostname in LOOPBACK
        ):
            return address
    raise DownloadError(f"{address:.200} is not fetched: only https addresses elsewhere are")


@dataclass(frozen=True)
class _Job:
    """One download: its limits, and the attempts at it."""

    client: httpx.Client
    address: str
    partial: _Partial
    most_bytes: int
    exact_bytes: int
    advance: Advance
    patience: Patience

    def run(self) -> None:
        """Try until the part is the whole file."""
        pauses, had = self.patience.pauses(), self.partial.size()
        while True:
            try:
                return self._attempt()
            except (_BrokenError, httpx.TransportError) as error:
                if self.partial.size() - had > PROGRESS_BYTES:
                    pauses, had = self.patience.pauses(), self.partial.size()  # it moves: begin counting anew
                pause = next(pauses, None)
                if pause is None:
                    raise self._error(
                        f"broke off again and again ({_say(error)}); what arrived is kept:"
                        " the same command goes on from there"
                    ) from None
                self.patience.sleep(pause)

    def _attempt(self) -> None:
        """One request; returns when the file is whole. Raises _BrokenError where another one may help."""
        mark = self.partial.mark(self.address)
        start = self.partial.size() if mark else 0
        wanted = {"Range": f"bytes={start}-", "If-Range": mark} if start else {}
        with self._response(wanted) as response:
            total = _total(response, start)
            if response.status_code == 416 or (start and _changed(response, mark)):
                self.partial.forget()
                raise _BrokenError("the part that arrived is not of this file")
            self._check_total(total, start)
            if start == 0 or response.status_code != 206:
                start = 0
                self.partial.begin(self.address, _mark_of(response))
            self._receive(response, start, total)

    @contextmanager
    def _response(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The answer after redirects, every one of which is checked like the first address."""
        address = check_address(self.address, from_here=True)
        from_here = urlsplit(address).hostname in LOOPBACK
        for _ in range(MOST_REDIRECTS + 1):
            response = self._send(check_address(address, from_here), headers)
            try:
                if response.status_code in REDIRECTS and "location" in response.headers:
                    address = self._led_to(address, response.headers["location"])
                    continue
                self._check_status(response)
                yield response
                return
            finally:
                response.close()
        raise self._error(f"redirects more than {MOST_REDIRECTS} times; look for another address")

    def _send(self, address: str, headers: dict[str, str]) -> httpx.Response:
        try:
            request = self.client.build_request("GET", address, headers=headers)
            return self.client.send(request, stream=True)
        except (httpx.InvalidURL, ValueError):  # of this address, or of the one that it leads to
            raise self._error("leads to an address that is none; look for another one") from None

    def _led_to(self, address: str, location: str) -> str:
        try:
            return urljoin(address, location)
        except ValueError:
            raise self._error("leads to an address that is none; look for another one") from None

    def _check_status(self, response: httpx.Response) -> None:
        code = response.status_code
        if code in TRY_AGAIN:
            raise _BrokenError(f"the server answered {code}")
        if code not in (200, 206, 416):
            raise self._error(f"answered {code}; look for another address")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise self._error("sends the file in another encoding; look for another address")

    def _check_total(self, total: int | None, start: int) -> None:
        """Refuse a file that is not the one on record, too large, or too large for the disk."""
        if total is None:
            return
        if self.exact_bytes and total != self.exact_bytes:
            raise self._error(
                f"has {total} bytes, but {self.exact_bytes} are on record: it is another file now;"
                " look for another address and use `stembridge models import`"
            )
        if total > self.most_bytes:
            raise self._error(f"has {total} bytes, more than the {self.most_bytes} that are allowed")
        free = shutil.disk_usage(self.partial.path.parent).free
        if total - start > free:
            raise self._error(f"needs {total - start} bytes, {free} are left on the disk; make room")

    def _receive(self, response: httpx.Response, start: int, total: int | None) -> None:
        """Append the body to the part; _BrokenError where it ends early, DownloadError where it goes on."""
        size, begun = start, time.monotonic()
        with self.partial.path.open("ab") as file:
            for piece in response.iter_raw():
                size += len(piece)
                if size > (self.most_bytes if total is None else total):
                    self.partial.forget()
                    raise self._error("sends more than it should; look for another address")
                file.write(piece)
                if total:
                    self.advance(size / total)
                elapsed = time.monotonic() - begun
                if elapsed > self.patience.stall_s and size - start < SLOWEST_BYTES_PER_S * elapsed:
                    raise _BrokenError("it came at a trickle")
        if total is not None and size < total:
            raise _BrokenError(f"it ended after {size} of {total} bytes")

    def _error(self, what: str) -> DownloadError:
        return DownloadError(f"{self.address:.200} {what}")


def _say(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "nothing came for too long"
    return " ".join(str(error).split())[:160] or type(error).__name__


def _total(response: httpx.Response, start: int) -> int | None:
    """The size of the whole file as the server states it; None where it does not."""
    if response.status_code != 206:
        stated = response.headers.get("content-length", "")
        return int(stated) if stated.isdigit() else None
    found = RANGE.fullmatch(response.headers.get("content-range", ""))
    if not found or int(found.group(1)) != start:
        raise _BrokenError("the server answered with another part of the file than was asked for")
    return int(found.group(3))


def _mark_of(response: httpx.Response) -> str:
    """What proves that a later answer is of the same file: a strong ETag, else the date; else ""."""
    tag: str = response.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified", "")


def _changed(response: httpx.Response, mark: str) -> bool:
    """Whether a partial answer is of another file than the part that is here."""
    return response.status_code == 206 and _mark_of(response) not in ("", mark)
