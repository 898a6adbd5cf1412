"""The source `lmfdb`: D. Platt's archive over HTTP, politely, each file checked by its md5.

The server keeps `md5sum.log` (lines ``<md5> *<name>``) and `data/zeros_<height>.dat` under
``download.url``, or `md5.txt`, the same, with the files beside it (``…/data/riemann-zeta-zeros/``):
what is there decides. Where the cookie ``human=1`` is missing, or does not help, it answers with a
page of HTML or sends to its gate; then the user is told what to fetch in a browser.
A file is written to `.<name>.partial`, resumed there after a fault, in this run or a later one,
and gets its own name once its md5 is right: what carries that name is good.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, LocationValueError

from zetalib import atomic
from zetalib.archive import codec, layout, manifest
from zetalib.archive.manifest import Known
from zetalib.errors import ZetaError
from zetalib.params import Download
from zetalib.sources import listings

LISTING = "md5sum.log"
LISTINGS = {LISTING: "data/", "md5.txt": ""}  # and where the files are, seen from there
FILES = 14_580
GATE = "gate.html"
_GATED = f"the server sends scripts to its gate ({GATE})"
CHUNK = 1 << 18  # bytes, at most, between two looks at the clock
LONGEST_PAUSE = 60.0  # seconds, of our own choice
LONGEST_WAIT = 3600.0  # seconds, at the server's wish
EVERY = 5.0  # seconds between progress lines

_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")
_AGAIN = "Run it again later: what was fetched stays, and the rest is resumed."

T = TypeVar("T")


@dataclass(frozen=True)
class Listed:
    """A file of the archive: its name, the height in its name, and its md5 in hex."""

    name: str
    height: int
    md5: str


def parse_listing(text: str, where: str = LISTING) -> list[Listed]:
    """The files of a listing, in order of height; a name of another kind is told and left out.

    Raises
    ------
    ZetaError
        On a line that is no md5 and name, on two entries for one height that are not the same,
        or if no line names a file of zeros.
    """
    found: dict[int, Listed] = {}
    try:
        entries = listings.parse(text, where)
    except ZetaError as error:
        remedy = "Try again later, or a mirror (download.url)."
        raise ZetaError(where, error.problem, remedy) from None
    for entry in entries:
        md5, name, number = entry.md5, entry.name, entry.line
        height = codec.NAME.fullmatch(name)
        if height is None or ".." in entry.path.split("/"):
            said = entry.path if entry.path.isprintable() else repr(entry.path)
            print(f"{where}: line {number}: {said} is not zeros_<height>.dat, left out", flush=True)
            continue
        file = Listed(name, int(height[1]), md5)
        before = found.setdefault(file.height, file)
        if before != file:
            problem = f"line {number}: a second entry for height {file.height}: {name} {md5}"
            problem += f", before it {before.name} {before.md5}"
            raise ZetaError(where, problem, "Try a mirror (download.url).")
    if not found:
        raise ZetaError(where, "it lists no zeros_<height>.dat", "Correct download.url.")
    return [found[height] for height in sorted(found)]


def _layout() -> list[Listed]:
    """The archive's files, without md5s, where no listing can be had."""
    heights = [int(bounds[0]) for bounds in itertools.islice(layout.bounds(), 6)]
    step = heights[-1] - heights[-2]  # as from every further file to the next
    heights += [heights[-1] + step * k for k in range(1, FILES - 5)]
    return [Listed(codec.file_name(t), t, "") for t in heights]


def count_bounds(t: float) -> tuple[float, float]:
    """Lower and upper bound of N(t), the number of zeros up to height `t`.

    The Riemann-von Mangoldt formula, with |S(t)| < 0.112 log t + 0.278 log log t + 2.510
    (T. Trudgian, J. Number Theory 134, 2014); t is taken as 10 where it is less: no zeros there.
    """
    t = max(t, 10.0)
    smooth = t / math.tau * math.log(t / (math.tau * math.e)) + 7 / 8
    s = 0.112 * math.log(t) + 0.278 * math.log(math.log(t)) + 2.510
    return max(smooth - s, 0.0), smooth + s


def surely_needed(files: list[Listed], max_zeros: int | None) -> int:
    """How many of `files` are needed for `max_zeros` zeros, whatever their headers will say.

    A file is needed when those before it cannot hold enough. At most one or two more may be.
    """
    if max_zeros is None:
        return len(files)
    before = count_bounds(files[0].height)[0]
    needed = (count_bounds(file.height + 1)[1] - before < max_zeros for file in files[1:])
    return 1 + sum(itertools.takewhile(bool, needed))


def surely_enough(files: list[Listed], max_zeros: int | None) -> int:
    """How many of `files` hold `max_zeros` zeros, whatever their headers will say."""
    if max_zeros is None:
        return len(files)
    before = count_bounds(files[0].height)[1]
    short = (count_bounds(file.height)[0] - before < max_zeros for file in files[1:])
    return 1 + sum(itertools.takewhile(bool, short))


def expected_bytes(files: list[Listed]) -> list[int]:
    """About how long each file is: 13 bytes a zero up to the next; the last: as the one before."""
    counts = [sum(count_bounds(file.height)) / 2 for file in files]
    sizes = [int(codec.RECORD_BYTES * (b - a)) for a, b in itertools.pairwise(counts)]
    return [*sizes, sizes[-1] if sizes else 0]


def download(
    params: Download,
    folder: Path,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> dict[str, Known]:
    """Make `folder` hold the archive's first files, as many as ``params.max_zeros`` needs.

    Files there that the listing vouches for by name and md5 are kept, whoever left them; what else
    an earlier run left goes, the manifest first, so that no unfinished folder looks whole; other
    files are refused by name. `clock` and `pause`
    (interrupted by its event) are time's only way in.

    Returns
    -------
    dict
        md5 and listing by file name, of exactly the files now in `folder`.

    Raises
    ------
    ZetaError
        When the archive cannot be had. What was fetched stays for the next run.
    """
    stop = threading.Event()
    with (
        _Client(params, lambda seconds: pause(stop, seconds)) as client,
        ThreadPoolExecutor(params.connections) as pool,
    ):
        files = client.listing()
        known = {file.name: Known(file.md5, client.listed_at) for file in files}
        sure = surely_needed(files, params.max_zeros)
        sizes = expected_bytes(files)
        folder.mkdir(parents=True, exist_ok=True)
        ours = manifest.ours(folder)
        partial = {_partial_name(file) for file in files}
        listed = {file.name for file in files}
        atomic.check_ours(folder, lambda p: p.name in listed | partial or ours(p))
        _check_room(folder, files, sum(sizes[:sure]), sure)
        there = {p.name for p in folder.iterdir() if p.name in listed and not ours(p)}
        manifest.note(folder, {file.name: file.md5 for file in files if file.name not in there})
        _remove(folder / manifest.NAME)
        _remove_others(folder, listed | partial)
        progress = _Progress({f.name: n for f, n in zip(files[:sure], sizes, strict=False)}, clock)
        bring = _Bringer(client, folder, progress, stop, ours)
        try:
            for done in as_completed([pool.submit(bring, file) for file in files[:sure]]):
                done.result()
            wanted = _first_files(files, folder, params.max_zeros, sure, bring)
        except codec.FileFault as fault:
            raise manifest.explained(fault, known, _AGAIN) from None
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    wanted_names = {file.name for file in wanted}
    atomic.check_ours(folder, lambda p: p.name in wanted_names | partial or ours(p))
    _remove_others(folder, wanted_names)
    return {file.name: known[file.name] for file in wanted}


def _first_files(
    files: list[Listed],
    folder: Path,
    max_zeros: int | None,
    there: int,
    bring: Callable[[Listed], None],
) -> list[Listed]:
    """The files that hold the first `max_zeros` zeros by their headers; brings those not there."""
    chain = codec.read_chain([folder / file.name for file in files])
    zeros = 0
    for k, file in enumerate(files):
        if k >= there:
            bring(file)
        headers = next(chain).headers
        zeros += headers[-1].n1 - headers[0].n0
        if max_zeros is not None and zeros >= max_zeros:
            return files[: k + 1]
    if max_zeros is not None:
        problem = f"the archive's listing ends after {zeros:,} zeros, {max_zeros:,} are asked for"
        raise ZetaError(
            "params.yaml: download.max_zeros", problem, "Ask for fewer, or null: all there are."
        )
    return files


def _check_room(folder: Path, files: list[Listed], size: int, sure: int) -> None:
    """Say what is planned; refuse it early when the disk has no room for it."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    there = sum(file.name in sizes for file in files[:sure])
    text = f"{sure:,} of the archive's {len(files):,} files planned, about {_bytes(size)}"
    print(f"{text}; {there:,} of these names are here already", flush=True)
    free = shutil.disk_usage(folder).free
    if size - sum(sizes.values()) > free:
        problem = f"{text}, and its disk has {_bytes(free)} free"
        remedy = "Lower download.max_zeros or move the repository to a larger disk (DVC's cache "
        remedy += "needs the same again unless cache.type is reflink, hardlink or symlink)."
        raise ZetaError(folder, problem, remedy)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Leave files of these names alone in `folder`; a partial file must not be a link: it grows."""
    for path in folder.iterdir():
        linked = path.name.startswith(".") and path.is_symlink()
        if path.name not in names or linked or not path.is_file():
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _partial_name(file: Listed) -> str:
    return f".{file.name}.partial"  # numeric_order does not see it


class _TransientError(Exception):
    """A fault that another try may cure; `wait` in seconds when the server named it."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class _NotThereError(ZetaError):
    """HTTP 404: it may be elsewhere."""


class _StoppedError(Exception):
    """Another file has failed, or the user has had enough."""


class _Local(threading.local):
    """A session for each thread: requests does not promise that one may be shared."""

    def __init__(self, opened: list[requests.Session]) -> None:
        self.session = requests.Session()
        self.session.headers["User-Agent"] = f"zetalib {requests.utils.default_user_agent()}"
        self.session.headers["Accept-Encoding"] = "identity"  # a Range counts the file's own bytes
        self.session.cookies.set("human", "1")  # a cookie, not a header: redirects keep it
        opened.append(self.session)


class _Client:
    """GET requests with our cookie, time-outs and retries."""

    def __init__(self, params: Download, pause: Callable[[float], object]) -> None:
        self._params, self._pause = params, pause
        self.listed_at = params.url + LISTING
        self._listed: list[Listed] = []
        self._places = list(LISTINGS.values())  # where a file may be; one once a file was there
        self._sessions: list[requests.Session] = []
        self._local = _Local(self._sessions)

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def patiently(self, what: str, attempt: Callable[[], T]) -> T:
        """`attempt`, again after each fault, with pauses of 1, 2, 4 ... s or as the server asks."""
        for tried in itertools.count(1):
            try:
                return attempt()
            except _TransientError as fault:
                if tried > self._params.retries:
                    problem = f"{fault} (tried {tried} times)"
                    raise ZetaError(what, problem, f"Check network and proxy. {_AGAIN}") from None
                wait = min(2.0 ** (tried - 1), LONGEST_PAUSE) if fault.wait is None else fault.wait
                if wait > LONGEST_WAIT:
                    problem = f"{fault}, and the server asks to wait {_span(wait)}"
                    raise ZetaError(what, problem, _AGAIN) from None
                print(f"{what}: {fault}; again in {wait:.0f} s", flush=True)
            self._pause(wait)
        raise AssertionError("unreachable")

    @contextmanager
    def open(self, url: str, offset: int = 0) -> Iterator[requests.Response]:
        """A response to GET of `url` from byte `offset` on: status 200, or 206 or 416 if offset.

        Whatever goes wrong in the network, also while the body is read, becomes a _TransientError
        or, if another try cannot help, a ZetaError.
        """
        proxy, timeout = self._params.proxy, self._params.timeout
        try:
            with self._local.session.get(
                url,
                stream=True,
                timeout=timeout,
                headers={"Range": f"bytes={offset}-"} if offset else {},
                # Given with the request: a session's own proxies yield to the environment's.
                proxies=None if proxy is None else {"http": proxy, "https": proxy},
            ) as response:
                if _gated(response):
                    raise self._by_hand(url, _GATED)
                if _check_status(url, response, offset):
                    raise self._by_hand(url)
                yield response
        except (requests.RequestException, HTTPError) as error:
            at = error.response if isinstance(error, requests.TooManyRedirects) else None
            if at is not None and _gated(at):
                raise self._by_hand(url, _GATED) from error
            raise _explained(url, error, timeout) from error

    def listing(self) -> list[Listed]:
        """The archive's files, from the listing that is there."""
        missing: list[_NotThereError] = []
        for name, place in LISTINGS.items():
            self.listed_at = url = self._params.url + name
            self._places.sort(key=place.__ne__)  # the listing's own layout first
            try:
                content = self.patiently(url, functools.partial(self._whole, url))
            except _NotThereError as error:
                missing.append(error)
                continue
            self._listed = parse_listing(listings.decode(content), url)
            return self._listed
        raise ZetaError(
            missing[0].where,
            f"{missing[0].problem}, nor is there {' or '.join(list(LISTINGS)[1:])}",
            missing[0].remedy,
        )

    def _whole(self, url: str) -> bytes:
        content = b""
        with self.open(url) as response:
            for chunk in self._body(url, response):
                content += chunk
                if len(content) > listings.LONGEST:
                    problem = f"more than {listings.LONGEST} bytes: no listing of md5s"
                    raise ZetaError(url, problem, "Correct download.url, or try a mirror.")
        return content

    def _body(self, url: str, response: requests.Response, *, html: bool = True) -> Iterator[bytes]:
        """The body as it comes, nothing held back: a cut loses no byte. `html`: watch for it."""
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            if html and _HTML.match(chunk):
                raise self._by_hand(url)
            html = False
            yield chunk

    def _by_hand(
        self,
        url: str,
        problem: str = "a page of HTML came instead of the file (a check for humans, a login page "
        "or a proxy's)",
    ) -> ZetaError:
        """What to fetch with a browser, and how to go on with it."""
        p = self._params
        files = self._listed or _layout()
        enough = files[: surely_enough(files, p.max_zeros)]
        needed = [file.name for file in enough]
        size = _bytes(sum(expected_bytes(files)[: len(enough)]))
        if len(needed) > 10:
            needed = [*needed[:3], "…", needed[-1]]
        other = " (or md5.txt and the files beside it, as is there)" if not self._listed else ""
        command = "dvc exp run -S download.source=directory -S download.directory=FOLDER"
        if p.max_zeros is not None:
            command += f" -S download.max_zeros={p.max_zeros}"
        return ZetaError(
            url,
            problem,
            f"In a browser save {self.listed_at} and, from {p.url}{self._places[0]}, "
            f"{', '.join(needed)} ({len(enough):,} files, about {size}){other} in one folder, then "
            f"go on with `{command}`; or name a mirror (download.url).",
        )

    @contextmanager
    def _found(self, file: Listed, offset: int) -> Iterator[requests.Response]:
        """As :meth:`open`, of a file of the archive, wherever it is."""
        missing: list[_NotThereError] = []
        for place in list(self._places):
            try:
                with self.open(f"{self._params.url}{place}{file.name}", offset) as response:
                    self._places = [place]
                    yield response
                return
            except _NotThereError as error:
                missing.append(error)
        listing = self.listed_at.rpartition("/")[2]
        nor = "".join(f", nor is it at {error.where}" for error in missing[1:])
        raise ZetaError(
            missing[0].where,
            f"{missing[0].problem}{nor}",
            f"{listing} names it, but the server lacks it: try a mirror (download.url).",
        )

    def transfer(self, file: Listed, partial: Path, received: Callable[[int, int], None]) -> str:
        """Add the bytes that `partial` lacks in one request, or all anew; md5 of the whole.

        `received` is told the bytes there now and the bytes just received.
        """
        digest, offset = hashlib.md5(usedforsecurity=False), 0
        if partial.exists():
            with partial.open("rb") as handle:
                while chunk := handle.read(CHUNK):
                    digest.update(chunk)
            offset = partial.stat().st_size
            received(offset, 0)
        if offset and digest.hexdigest() == file.md5:  # killed between its last byte and its name
            return file.md5
        with self._found(file, offset) as response:
            if response.status_code == 416 or (
                response.status_code == 206
                and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
            ):
                partial.unlink()
                raise _TransientError(f"the server cannot go on at byte {offset}; starting anew")
            if response.status_code == 200:
                digest, offset = hashlib.md5(usedforsecurity=False), 0
            body = self._body(response.url, response, html=offset == 0)
            first = next(body, b"")  # before the file is opened: HTML must not empty it
            with partial.open("ab" if offset else "wb") as out:
                for chunk in itertools.chain([first], body):
                    out.write(chunk)
                    digest.update(chunk)
                    offset += len(chunk)
                    received(offset, len(chunk))
                out.flush()
                os.fsync(out.fileno())
        return digest.hexdigest()


def _gated(response: requests.Response) -> bool:
    """Whether the server sent us to its gate on the way to this response."""
    return any(GATE in urlsplit(r.url).path for r in [*response.history, response])


def _check_status(url: str, response: requests.Response, offset: int) -> bool:
    """Raise unless the status is one of success; whether a page of HTML came with it."""
    status = response.status_code
    if status == 200 or (offset and status in (206, 416)):
        return "html" in response.headers.get("Content-Type", "").lower() and status != 416
    if status in (408, 425, 429) or status >= 500:
        raise _TransientError(f"HTTP {status} {response.reason}", _retry_after(response))
    kind = _NotThereError if status == 404 else ZetaError
    raise kind(url, f"HTTP {status} {response.reason}", "Correct download.url, or try a mirror.")


def _retry_after(response: requests.Response) -> float | None:
    header = response.headers.get("Retry-After")
    if header is None:
        return None
    try:
        return float(urllib3.Retry(retry_after_max=sys.maxsize).parse_retry_after(header))
    except InvalidHeader:
        return None


def _explained(url: str, error: Exception, timeout: float) -> Exception:
    """`error` of requests or urllib3 as a _TransientError; a ZetaError if it would come again."""
    if isinstance(error, requests.TooManyRedirects):
        return ZetaError(url, "it redirects in circles", "Correct download.url.")
    chain: list[BaseException] = [error]  # from the outside in
    while inner := _inner(chain[-1]):
        chain.append(inner)
    text = str(chain[-1]).rpartition("): ")[2].rstrip(".")  # without urllib3's name of the pool
    if any("CERTIFICATE_VERIFY_FAILED" in str(e) for e in chain):
        remedy = "Set REQUESTS_CA_BUNDLE to your proxy's or mirror's certificates."
        return ZetaError(url, "its TLS certificate is not trusted", remedy)
    known: dict[type[BaseException], str] = {
        urllib3.exceptions.ProxyError: f"the proxy cannot be reached ({text})",
        urllib3.exceptions.NameResolutionError: "the host name cannot be resolved",
        urllib3.exceptions.NewConnectionError: f"no connection ({text})",  # also a TimeoutError
        urllib3.exceptions.TimeoutError: f"no byte for {timeout:g} s",
        urllib3.exceptions.SSLError: f"TLS failed ({text})",
        urllib3.exceptions.IncompleteRead: f"the connection was cut: {text}",
    }
    for kind, problem in known.items():
        if any(isinstance(e, kind) for e in chain):
            return _TransientError(problem)
    transient = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, HTTPError)
    if isinstance(error, transient) and not isinstance(error, LocationValueError):
        return _TransientError(f"the connection failed ({text})")
    return ZetaError(url, text, "Correct download.url or download.proxy.")


def _inner(error: BaseException) -> BaseException | None:
    """The cause that requests and urllib3 keep in `reason` or among the arguments."""
    held = [getattr(error, "reason", None), *error.args]
    return next((e for e in held if isinstance(e, BaseException)), None)


class _Bringer:
    """Brings one file: kept if it is good, else fetched; called from every connection's thread."""

    def __init__(
        self,
        client: _Client,
        folder: Path,
        progress: _Progress,
        stop: threading.Event,
        ours: Callable[[Path], bool],
    ) -> None:
        self._client, self._folder, self._progress = client, folder, progress
        self._stop, self._ours = stop, ours

    def __call__(self, file: Listed) -> None:
        path, partial = self._folder / file.name, self._folder / _partial_name(file)
        if path.exists():
            with path.open("rb") as handle:
                good = hashlib.file_digest(handle, "md5").hexdigest() == file.md5
            if good:
                self._progress.kept(file.name, path.stat().st_size)
                return
            if not self._ours(path):
                problem = f"its md5 is not that of {self._client.listed_at} ({file.md5}), and no "
                problem += "run of ours left it so: it is not replaced"
                raise ZetaError(path, problem, f"Move it out of {self._folder}, or delete it.")
            path.unlink()
        wrong: list[str] = []

        def received(there: int, new: int) -> None:
            if self._stop.is_set():
                raise _StoppedError
            self._progress.received(file.name, there, new)

        def attempt() -> None:
            if self._stop.is_set():
                raise _StoppedError
            digest = self._client.transfer(file, partial, received)
            if digest == file.md5:
                return
            partial.unlink()
            wrong.append(digest)
            problem = f"its md5 is {digest}, {self._client.listed_at} says {file.md5}"
            if len(wrong) > 1:
                remedy = f"The server's copy may be damaged: try a mirror (download.url). {_AGAIN}"
                raise ZetaError(file.name, f"{problem}, also when fetched anew", remedy)
            raise _TransientError(problem)

        self._client.patiently(file.name, attempt)
        os.replace(partial, path)
        self._progress.fetched(file.name)


class _Progress:
    """Prints how far all files are: at each file's end, and in between every few seconds."""

    def __init__(self, expected: dict[str, int], clock: Callable[[], float]) -> None:
        self._expected, self._clock = expected, clock
        self._there: dict[str, int] = {}
        self._start = self._said = clock()
        self._received = 0
        self._whole = 0
        self._lock = threading.Lock()

    def received(self, name: str, there: int, new: int) -> None:
        """`new` bytes of a file have come; it has `there` bytes now."""
        with self._lock:
            self._there[name] = there
            self._received += new
            if self._clock() - self._said >= EVERY:
                self._say(name)

    def kept(self, name: str, size: int) -> None:
        """A good file was there already."""
        with self._lock:
            self._end(name, size)
            if self._clock() - self._said >= EVERY:
                self._say(f"{name} kept")

    def fetched(self, name: str) -> None:
        """A file is whole."""
        with self._lock:
            self._end(name, self._there[name])
            self._say(f"{name} done")

    def _end(self, name: str, size: int) -> None:
        self._there[name] = self._expected[name] = size
        self._whole += 1

    def _say(self, what: str) -> None:
        self._said = self._clock()
        there, total = sum(self._there.values()), sum(self._expected.values())
        speed = self._received / max(self._said - self._start, 1e-3)
        left = _span(max(total - there, 0) / speed) if speed else "unknown"
        print(
            f"{what}: {self._whole:,} of {len(self._expected):,} files, {_bytes(there)} of "
            f"{_bytes(total)}, {_bytes(speed)}/s, {left} left",
            flush=True,
        )


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
