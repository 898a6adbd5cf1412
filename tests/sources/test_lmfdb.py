"""The LMFDB source against a real HTTP server on loopback that misbehaves as told."""

import datetime
import functools
import hashlib
import ipaddress
import itertools
import json
import math
import os
import re
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from conftest import PLATT, ROOT, changed, synthetic_blocks
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from zetalib.archive import codec, manifest
from zetalib.data import decode
from zetalib.errors import ZetaError
from zetalib.sources import download, lmfdb
from zetalib.sources.lmfdb import Listed, count_bounds, parse_listing, surely_needed


def md5(content):
    return hashlib.md5(content).hexdigest()


def archive_files():
    """LMFDB's own first file, then three short ones with as many zeros as zeta has there."""
    files, n = {"zeros_14.dat": PLATT.read_bytes()}, 4520
    for seed, bounds in enumerate([(5000.0, 5100.0), (5100.0, 5200.0), (5200.0, 5300.0)]):
        count = round(sum(count_bounds(bounds[1])) / 2) - n
        files[codec.file_name(bounds[0])] = codec.encode(synthetic_blocks(seed, bounds, count, n))
        n += count
    files["zeros_5100.dat"] += b"27 bytes after the last one"
    return files


FILES = archive_files()
NAMES = list(FILES)
PLATT_BYTES = len(FILES["zeros_14.dat"])


def listing_of(files, order=sorted):
    return "".join(f"{md5(files[n])} *{n}\n" for n in order(files)).encode()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files` below /zeros/; a path's scripted faults come first, one a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        with server.lock:
            server.log.append((self.path, dict(self.headers)))
            server.unanswered += 1
            server.most_unanswered = max(server.most_unanswered, server.unanswered)
            path = re.sub(r"^http://[^/]+", "", self.path).removeprefix("/zeros/")
            faults = server.faults.get(path, [])
            fault = faults.pop(0) if faults else None
        try:
            if fault is not None:
                fault(self, path)
            elif "human=1" not in self.headers.get("Cookie", ""):
                self.reply(200, b"<!doctype html><title>Are you human?</title>", "text/html")
            elif path in server.files:
                self.serve(server.files[path])
            else:
                self.reply(404, b"<html>not here</html>", "text/html")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def reply(self, status, content, kind="application/octet-stream", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with self.server.lock:  # before the client can know that it is over, and ask again
            self.server.unanswered -= 1
        self.wfile.write(content)
        self.server.sent.append((self.path, status, len(content)))

    def serve(self, content):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if start >= len(content) and start:
            self.reply(416, b"", Content_Range=f"bytes */{len(content)}")
        elif wanted:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.reply(206, content[start:], Content_Range=span)
        else:
            self.reply(200, content)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.log, self.sent, self.faults = [], [], {}
        self.unanswered = self.most_unanswered = 0  # requests of which no body was sent
        self.released = threading.Event()  # what stalled handlers wait for
        self.files = {f"data/{name}": content for name, content in FILES.items()}
        self.files[lmfdb.LISTING] = listing_of(FILES)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/zeros/"

    def fetched(self):
        """Names asked for so far, in the order of requests; forgets them."""
        with self.lock:
            names = [path.rpartition("/")[2] for path, _ in self.log]
            self.log.clear()
        return names

    def handle_error(self, *_):
        pass


@pytest.fixture
def served():
    """A function that starts one more server."""
    servers = []

    def start():
        server = Server()
        servers.append(server)
        # The default poll of 0.5 s would be the time every test takes to end.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(served):
    return served()


@pytest.fixture(autouse=True)
def no_proxies_of_ours(monkeypatch):
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def pauses(monkeypatch):
    """Pauses are written down instead of made."""
    made = []
    pause = lambda _, seconds: made.append(seconds)  # noqa: E731
    monkeypatch.setattr(lmfdb, "download", functools.partial(lmfdb.download, pause=pause))
    return made


@pytest.fixture
def settings(defaults, server):
    def make(**changes):
        known = {"source": "lmfdb", "url": server.url, "timeout": 5.0, **changes}
        return changed(defaults.download, **known)

    return make


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_whole(folder, names=NAMES, source="lmfdb"):
    """Exactly these files of the archive, and the manifest of a fresh run."""
    assert sorted(contents(folder)) == sorted([*names, manifest.NAME])
    described = json.loads((folder / manifest.NAME).read_text())
    assert described["source"] == source
    assert [f["name"] for f in described["files"]] == list(names)
    for entry in described["files"]:
        found = (folder / entry["name"]).read_bytes()
        assert found == FILES[entry["name"]]
        assert (entry["md5"], entry["bytes"]) == (md5(found), len(found))


# Which files: the listing and the count of zeros.


def test_the_archive_becomes_a_folder_that_decodes(server, settings, raw, tmp_path):
    found = download.fetch(settings(), raw)
    assert_whole(raw)
    assert found["files"][0]["md5"] == "56cfdb9e133098a294c145118fc33fa7"
    assert found["files"][2]["bytes_after_last_block"] == 27
    assert decode.decode_folder(raw, tmp_path / "zeros") == found["zeros"] > 4800
    assert sorted(n for n, _ in ((p.rpartition("/")[2], h) for p, h in server.log)) == sorted(
        [lmfdb.LISTING, *NAMES]
    )
    for _, headers in server.log:
        assert headers["Cookie"] == "human=1"
        assert headers["User-Agent"].startswith("zetalib ")
        assert "Range" not in headers


@pytest.mark.parametrize(
    ("max_zeros", "files"),
    [(1, 1), (4520, 1), (4521, 2), (4626, 2), (4640, 3), (4700, 3), (4800, 4)],
)
def test_max_zeros_decides_which_files_are_asked_for(max_zeros, files, server, settings, raw):
    found = download.fetch(settings(max_zeros=max_zeros), raw)
    assert_whole(raw, NAMES[:files])
    assert sorted(server.fetched()) == sorted([lmfdb.LISTING, *NAMES[:files]])
    assert found["zeros"] >= max_zeros


def test_more_zeros_than_the_listing_reaches_is_an_error_and_the_files_stay(server, settings, raw):
    with pytest.raises(
        ZetaError, match=r"max_zeros: .* ends after 4,\d\d\d zeros, 9,999 are asked"
    ):
        download.fetch(settings(max_zeros=9999), raw)
    assert sorted(contents(raw)) == sorted(NAMES)
    server.fetched()
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert server.fetched() == [lmfdb.LISTING]


def test_fewer_zeros_than_last_time_leaves_fewer_files(server, settings, raw):
    download.fetch(settings(), raw)
    download.fetch(settings(max_zeros=10), raw)
    assert_whole(raw, NAMES[:1])


def test_a_file_missing_from_the_listing_is_named(server, settings, raw):
    left = {n: c for n, c in FILES.items() if n != "zeros_5100.dat"}
    server.files[lmfdb.LISTING] = listing_of(left)
    with pytest.raises(ZetaError, match=r"zeros_5200\.dat .* missing before it.*zeros_5100\.dat"):
        download.fetch(settings(), raw)
    assert not (raw / manifest.NAME).exists()


@given(st.floats(14.0, 3.1e10))
def test_the_bounds_of_the_count_are_narrow_and_hold_the_smooth_count(t):
    low, high = count_bounds(t)
    smooth = t / math.tau * math.log(t / math.tau / math.e) + 7 / 8
    assert low <= max(smooth, 0.0) + 1e-6 * high and smooth <= high and high - low < 13


def test_the_bounds_hold_the_counts_of_the_archive():
    index = [(14, 0), (5000, 4520), (7100, 6814), (9200, 9209), (11300, 11681), (13400, 14215)]
    index += [(15500, 16802), (17600, 19435), (19700, 22106), (21800, 24815), (23900, 27555)]
    for t, count in index:
        low, high = count_bounds(t)
        assert low <= count <= high


def test_of_the_whole_archive_no_file_is_planned_that_is_not_needed():
    """The layout of all 14,580 files; 103.8 billion zeros at the top."""
    heights = [14, 5000, 26000, 236000, *range(446000, 446000 + 2_100_000 * 14576, 2_100_000)]
    files = [Listed(f"zeros_{t}.dat", t, "0" * 32) for t in heights]
    assert len(files) == 14_580
    assert surely_needed(files, None) == 14_580
    assert 1.2e12 < sum(lmfdb.expected_bytes(files)) < 1.5e12
    # Heights of the zeros of these ranks, to the unit (A. Odlyzko; LMFDB).
    for max_zeros, height in {1: 14, 10**4: 9877, 10**6: 600269, 10**8: 42653549}.items():
        assert surely_needed(files, max_zeros) == sum(t <= height for t in heights)
    for k in (1, 10, 1000, 14_000):  # where a file may just suffice, its header decides
        low, high = count_bounds(heights[k])
        assert surely_needed(files, math.floor(low)) <= k
        assert surely_needed(files, math.ceil(high) + 10) == k + 1


def entry(name, character="a"):
    return f"{character * 32} *{name}\n"


def test_the_listing_is_read_in_numeric_order_whatever_its_own():
    text = entry("zeros_5000.dat", "B") + "\n" + entry("zeros_14.dat") + entry("zeros_14.dat")
    text += entry("zeros_26000.dat").replace(" *", "  ").replace("\n", "\r\n")
    assert parse_listing(text) == [
        Listed("zeros_14.dat", 14, "a" * 32),
        Listed("zeros_5000.dat", 5000, "b" * 32),
        Listed("zeros_26000.dat", 26000, "a" * 32),
    ]


def test_a_name_of_another_kind_is_left_out_and_told(capsys):
    text = entry("index.db") + entry("zeros_14.dat") + entry("../zeros_5000.dat")
    assert [file.name for file in parse_listing(text)] == ["zeros_14.dat"]
    said = capsys.readouterr().out
    assert "line 1: index.db" in said and "line 3: ../zeros_5000.dat" in said


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lists no zeros"),
        (entry("index.db"), "lists no zeros"),
        (
            entry("zeros_14.dat") + entry("zeros_14.dat", "b"),
            "line 2: a second entry for height 14",
        ),
        (entry("zeros_14.dat") + entry("zeros_014.dat"), "line 2: a second entry for height 14"),
        (entry("zeros_14.dat") + "abc *zeros_5000.dat", "line 2 is not '<md5>"),
        (entry("zeros_14.dat") + "a" * 32, "line 2 is not '<md5>"),
        (entry("zeros_14.dat") + entry("zeros_" + "9" * 5000 + ".dat"), "line 2 is not '<md5>"),
    ],
)
def test_a_damaged_listing_is_refused_by_line(text, problem):
    with pytest.raises(ZetaError, match=re.escape(problem)):
        parse_listing(text)


# Faults of the server.


def status(code, **headers):
    return lambda handler, _: handler.reply(code, b"no", "text/plain", **headers)


def cut(at):
    """Announce the whole file, send `at` bytes, hang up."""

    def fault(handler, path):
        content = handler.server.files[path]
        handler.reply(200, content[:at], length=len(content))
        handler.close_connection = True

    return fault


def stall(at):
    """Send `at` bytes, then nothing."""

    def fault(handler, path):
        content = handler.server.files[path]
        handler.reply(200, content[:at], length=len(content))
        handler.server.released.wait(20)
        handler.close_connection = True

    return fault


def body(content, kind="application/octet-stream"):
    return lambda handler, _: handler.reply(200, content, kind)


def ignore_range(handler, path):
    handler.reply(200, handler.server.files[path])


def chunked(handler, path):
    """Without a length announced."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    content = handler.server.files[path]
    for part in (content[:1000], content[1000:]):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


HTML = body(b"<html>Log in to our network</html>")
DAMAGED = bytes([FILES["zeros_14.dat"][0]]) + b"?" + FILES["zeros_14.dat"][2:]
DATA = "data/zeros_14.dat"


@pytest.mark.parametrize("path", [DATA, lmfdb.LISTING])
@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([status(500)], [1.0]),
        ([status(503), status(502), status(504)], [1.0, 2.0, 4.0]),
        ([status(429, Retry_After="7")], [7.0]),
        ([status(503, Retry_After="soon"), status(408)], [1.0, 2.0]),
        ([cut(100)], [1.0]),
        ([cut(0), cut(0)], [1.0, 2.0]),
        ([chunked], []),
    ],
)
def test_passing_faults_are_waited_out(path, faults, waits, server, settings, raw, pauses):
    server.faults[path] = list(faults)
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert pauses == waits


def test_a_date_to_retry_after_is_honoured(server, settings, raw, pauses):
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=600)
    server.faults[DATA] = [status(503, Retry_After=at.strftime("%a, %d %b %Y %H:%M:%S GMT"))]
    download.fetch(settings(), raw)
    assert len(pauses) == 1 and 500 < pauses[0] <= 600


def test_too_long_a_wait_is_the_users_to_make(server, settings, raw, pauses):
    server.faults[DATA] = [status(429, Retry_After="86400")]
    with pytest.raises(ZetaError, match=r"HTTP 429 .* wait 24 h"):
        download.fetch(settings(), raw)
    assert pauses == []


def test_pauses_grow_to_a_minute_and_retries_end(server, settings, raw, pauses):
    server.faults[DATA] = [status(500)] * 9
    with pytest.raises(ZetaError, match=r"zeros_14\.dat: HTTP 500 .*tried 9 times"):
        download.fetch(settings(retries=8), raw)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_cut_file_is_resumed_where_it_broke(server, settings, raw, pauses):
    server.faults[DATA] = [cut(40_000)]
    download.fetch(settings(), raw)
    assert_whole(raw)
    asked = [headers.get("Range") for path, headers in server.log if path.endswith("_14.dat")]
    assert asked == [None, "bytes=40000-"]
    assert [n for path, _, n in server.sent if path.endswith("_14.dat")] == [
        40_000,
        PLATT_BYTES - 40_000,
    ]


def test_a_server_that_ignores_the_range_sends_all_anew(server, settings, raw, pauses):
    server.faults[DATA] = [cut(40_000), ignore_range]
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert server.fetched().count("zeros_14.dat") == 2


def wrong_range(handler, path):
    handler.reply(206, handler.server.files[path][10:], Content_Range="bytes 10-58799/58800")


def test_a_server_that_sends_another_range_is_asked_for_all(server, settings, raw, pauses):
    server.faults[DATA] = [cut(40_000), wrong_range]
    download.fetch(settings(), raw)
    assert_whole(raw)
    ranges = [headers.get("Range") for path, headers in server.log if path.endswith("_14.dat")]
    assert ranges == [None, "bytes=40000-", None]


@pytest.mark.parametrize(
    "partial", [b"rubbish", b"x" * 99_999, FILES["zeros_14.dat"], FILES["zeros_14.dat"] + b"more"]
)
def test_whatever_partial_file_is_there_the_file_comes_out_right(
    partial, server, settings, raw, pauses
):
    raw.mkdir()
    (raw / ".zeros_14.dat.partial").write_bytes(partial)
    download.fetch(settings(), raw)
    assert_whole(raw)
    whole = partial == FILES["zeros_14.dat"]
    assert server.fetched().count("zeros_14.dat") == (0 if whole else 2)


def test_a_partial_file_that_is_a_link_is_not_followed(server, settings, raw, tmp_path):
    raw.mkdir()
    (tmp_path / "mine").write_bytes(b"precious")
    (raw / ".zeros_14.dat.partial").symlink_to(tmp_path / "mine")
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_a_wrong_md5_is_fetched_anew(server, settings, raw, pauses):
    server.faults[DATA] = [body(DAMAGED)]
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert server.fetched().count("zeros_14.dat") == 2


def test_a_wrong_md5_twice_is_an_error_and_the_file_is_not_kept(server, settings, raw, pauses):
    server.files[DATA] = DAMAGED
    right, wrong = md5(FILES["zeros_14.dat"]), md5(DAMAGED)
    with pytest.raises(ZetaError, match=rf"zeros_14\.dat: its md5 is {wrong}, .* {right}, also"):
        download.fetch(settings(max_zeros=1), raw)
    assert server.fetched().count("zeros_14.dat") == 2
    assert contents(raw) == {}


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (HTML, "a page of HTML"),
        (body(b"\xef\xbb\xbf\r\n <!DOCTYPE html>"), "a page of HTML"),
        (body(b"anything", "text/html; charset=utf-8"), "a page of HTML"),
        (status(404), "HTTP 404"),
        (status(403), "HTTP 403"),
        (status(304), "HTTP 304"),
        (status(206, Content_Range="bytes 0-1/2"), "HTTP 206"),  # not asked for
        (status(301, Location="/zeros/loop"), "redirects in circles"),
        (status(302, Location="ftp://127.0.0.1/x"), "ftp://127.0.0.1/x"),
    ],
)
@pytest.mark.parametrize("path", [DATA, lmfdb.LISTING])
def test_lasting_faults_are_one_line_at_once(path, fault, problem, server, settings, raw, pauses):
    server.faults[path] = [fault]
    server.faults["loop"] = [status(301, Location="/zeros/loop")] * 40
    with pytest.raises(ZetaError, match=re.escape(problem)) as caught:
        download.fetch(settings(max_zeros=1), raw)
    assert path in str(caught.value) and "\n" not in str(caught.value)
    assert pauses == [] and (not raw.exists() or contents(raw) == {})


def test_html_in_the_middle_leaves_what_was_received(server, settings, raw, pauses):
    server.faults[DATA] = [cut(40_000), HTML]
    with pytest.raises(ZetaError, match="a page of HTML"):
        download.fetch(settings(max_zeros=1), raw)
    assert contents(raw) == {".zeros_14.dat.partial": FILES["zeros_14.dat"][:40_000]}
    download.fetch(settings(max_zeros=1), raw)
    assert_whole(raw, NAMES[:1])
    assert server.log[-1][1]["Range"] == "bytes=40000-"


def test_sixty_blocks_are_not_taken_for_html():
    """60 is '<': the first byte of a file of 60 blocks."""
    assert not lmfdb._HTML.match((60).to_bytes(8, "little"))


def test_a_listing_cut_within_a_line_is_refused(server, settings, raw):
    server.files[lmfdb.LISTING] = server.files[lmfdb.LISTING][:-30]
    with pytest.raises(ZetaError, match=r"md5sum\.log: line 4 is not"):
        download.fetch(settings(), raw)
    assert not raw.exists()


@pytest.mark.parametrize(("path", "at"), [(DATA, 40_000), (DATA, 0), (lmfdb.LISTING, 10)])
def test_a_stalled_server_times_out(path, at, server, settings, raw, pauses):
    server.faults[path] = [stall(at), stall(at)]
    with pytest.raises(ZetaError, match=r"no byte for 0\.2 s \(tried 2 times\)"):
        download.fetch(settings(timeout=0.2, retries=1, max_zeros=1), raw)
    download.fetch(settings(max_zeros=1), raw)
    assert_whole(raw, NAMES[:1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "http://127.0.0.1:1/"}, "Connection refused) (tried 2 times)"),
        ({"url": "http://no-such-host.invalid/"}, "host name cannot be resolved (tried 2 times)"),
        ({"proxy": "http://127.0.0.1:1"}, "proxy cannot be reached (Failed to"),
        ({"proxy": "rubbish://:"}, "check proxy URL"),
        ({"url": "http://a..b/"}, "'a..b', label empty or too long. Correct download.url"),
    ],
)
def test_who_cannot_be_reached_is_said(change, problem, settings, raw, pauses):
    with pytest.raises(ZetaError, match=re.escape(problem)) as caught:
        download.fetch(settings(retries=1, **change), raw)
    assert "\n" not in str(caught.value) and not raw.exists()


def test_tls_with_a_plain_server_fails_clearly(server, settings, raw, pauses):
    with pytest.raises(ZetaError, match=r"TLS failed \(.*tried 2 times"):
        download.fetch(settings(retries=1, url=server.url.replace("http", "https")), raw)


def test_an_untrusted_certificate_is_refused_and_a_trusted_one_taken(
    served, settings, raw, tmp_path, monkeypatch, pauses
):
    certificate = self_signed(tmp_path)
    secure = served()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    params = settings(url=secure.url.replace("http", "https"), max_zeros=1)
    with pytest.raises(ZetaError, match="its TLS certificate is not trusted"):
        download.fetch(params, raw)
    assert pauses == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    download.fetch(params, raw)
    assert_whole(raw, NAMES[:1])


def self_signed(folder):
    """A certificate for 127.0.0.1 and its key in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


# Ways to the server.


def through(server, url):
    paths = [path for path, _ in server.log]
    return bool(paths) and all(path.startswith(url) for path in paths)


@pytest.mark.parametrize("by", ["parameter", "environment", "parameter before environment"])
def test_a_proxy_is_used(by, server, settings, raw, monkeypatch):
    """The server is the proxy here; the archive's host does not exist."""
    url, proxy = "http://archive.invalid/zeros/", server.url.removesuffix("/zeros/")
    if by != "parameter":
        refused = "http://127.0.0.1:1"
        monkeypatch.setenv("http_proxy", proxy if by == "environment" else refused)
    download.fetch(settings(url=url, proxy=None if by == "environment" else proxy, retries=0), raw)
    assert_whole(raw)
    assert through(server, url)


def test_a_mirror_and_redirects_to_it(server, served, settings, raw):
    mirror = served()
    for name in FILES:
        server.faults[f"data/{name}"] = [status(302, Location=f"{mirror.url}data/{name}")]
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert sorted(mirror.fetched()) == sorted(FILES)
    server.fetched()
    shutil.rmtree(raw)
    download.fetch(settings(url=mirror.url), raw)
    assert_whole(raw)
    assert server.fetched() == []


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_no_more_connections_than_allowed(connections, server, settings, raw):
    meeting = threading.Barrier(connections)

    def meet(handler, path):  # the first so many wait for each other
        meeting.wait(5)
        time.sleep(0.1)  # for one too many to come
        handler.serve(handler.server.files[path])

    for name in NAMES[:connections]:
        server.faults[f"data/{name}"] = [meet]
    download.fetch(settings(connections=connections), raw)
    assert_whole(raw)
    assert server.most_unanswered == connections


# Where things are on the server.


@pytest.mark.parametrize("place", ["data/", ""])
@pytest.mark.parametrize("listing", ["md5sum.log", "md5.txt"])
@pytest.mark.parametrize("connections", [1, 3])
def test_both_layouts_and_mixtures_of_them(listing, place, connections, server, settings, raw):
    server.files = {f"{place}{name}": content for name, content in FILES.items()}
    server.files[listing] = listing_of(FILES)
    found = download.fetch(settings(connections=connections, retries=0), raw)
    assert_whole(raw)
    assert {f["listing"] for f in found["files"]} == {server.url + listing}
    asked = [path.removeprefix("/zeros/") for path, _ in server.log]
    assert asked[:2].count("md5.txt") == (listing == "md5.txt")
    elsewhere = [p for p in asked if p.endswith(".dat") and p not in server.files]
    natural = (listing == "md5sum.log") == (place == "data/")
    assert len(elsewhere) == 0 if natural else 1 <= len(elsewhere) <= connections
    server.fetched()
    shutil.rmtree(raw)
    server.files["md5sum.log"] = server.files["md5.txt"] = listing_of(FILES)  # both, as at LMFDB
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert "md5.txt" not in server.fetched()


def test_a_server_without_either_listing_is_said(server, settings, raw, pauses):
    server.files.pop(lmfdb.LISTING)
    with pytest.raises(ZetaError, match=r"md5sum\.log: HTTP 404 Not Found, nor is there md5\.txt"):
        download.fetch(settings(), raw)
    assert server.fetched() == ["md5sum.log", "md5.txt"] and pauses == []


def test_a_file_in_neither_place_is_said(server, settings, raw, pauses):
    server.files.pop(DATA)
    match = r"data/zeros_14\.dat: HTTP 404 Not Found, nor is it at .*/zeros/zeros_14\.dat\. md5sum"
    with pytest.raises(ZetaError, match=match):
        download.fetch(settings(max_zeros=1), raw)


def test_passing_faults_of_the_second_listing_are_waited_out(server, settings, raw, pauses):
    server.files["md5.txt"] = server.files.pop(lmfdb.LISTING)
    server.faults["md5.txt"] = [status(503), cut(9)]
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert pauses == [1.0, 2.0]


def test_a_listing_without_end_is_not_read_to_it(server, settings, raw, monkeypatch):
    monkeypatch.setattr(lmfdb.listings, "LONGEST", 100)
    with pytest.raises(ZetaError, match=r"md5sum\.log: more than 100 bytes: no listing of md5s"):
        download.fetch(settings(), raw)


# The gate, and going on by hand.


def gate(handler, _):
    handler.reply(302, b"", Location="/zeros/gate.html")


def gates(server, page):
    """All but a browser is sent to the gate, which answers with `page`."""
    server.faults = {path: [gate] * 9 for path in [*server.files, "md5.txt"]}
    server.faults["gate.html"] = [page] * 99


@pytest.mark.parametrize(
    "page",
    [body(b"<html>Are you human?", "text/html"), body(b"", "text/html"), status(404), status(403),
     gate, body(b"gate")],
)  # fmt: skip
@pytest.mark.parametrize("at", [lmfdb.LISTING, DATA])
@pytest.mark.parametrize("layout", ["md5sum.log", "md5.txt"])
def test_the_gate_says_how_to_go_on_by_hand_and_so_it_goes(
    layout, at, page, server, settings, raw, tmp_path, pauses, defaults
):
    place = lmfdb.LISTINGS[layout]
    server.files = {f"{place}{name}": content for name, content in FILES.items()}
    server.files[layout] = listing_of(FILES)
    gates(server, page)
    if at == DATA:
        server.faults.pop(layout)
        server.faults.pop("md5sum.log", None)
    elif layout == "md5.txt":
        server.faults["md5sum.log"] = [status(404)]
    with pytest.raises(ZetaError, match=r"sends scripts to its gate \(gate\.html\)") as caught:
        download.fetch(settings(max_zeros=4700, connections=1), raw)
    assert pauses == [] and "\n" not in str(caught.value)
    assert not list(raw.glob("zeros*"))
    told = re.search(
        r"In a browser save (\S+) and, from (\S+), (.+?) \(\d+ files?, about [^)]+\)"
        r"(?: \(or md5\.txt and the files beside it, as is there\))? in one folder, "
        r"then go on with `dvc exp run -S download\.source=directory "
        r"-S download\.directory=FOLDER -S download\.max_zeros=4700`",
        caught.value.remedy,
    )
    assert told is not None, caught.value.remedy
    listing, base, names = told[1], told[2], told[3].split(", ")
    assert (listing, base) == (server.url + layout, server.url + place)
    if at == DATA:  # the listing was read; else the names are those of the archive's layout
        assert names == NAMES[:3]
        names = NAMES[:3]
    else:
        assert names == NAMES[:2]
        names = NAMES[:3]  # this test's files are shorter than the archive's
    server.faults.clear()
    folder = tmp_path / "by-hand"
    folder.mkdir()
    for url in [listing, *(base + name for name in names)]:
        answer = requests.get(url, cookies={"human": "1"}, timeout=5)
        (folder / url.rpartition("/")[2]).write_bytes(answer.content)
    params = changed(defaults.download, source="directory", directory=str(folder), max_zeros=4700)
    found = download.fetch(params, raw)
    assert_whole(raw, names, "directory")
    assert {f["listing"] for f in found["files"]} == {layout}


@pytest.mark.parametrize(
    ("max_zeros", "names", "files"),
    [
        (4000, "zeros_14.dat", "1 "),
        (20_000, "zeros_14.dat, zeros_5000.dat", "2 "),
        (4_826_909, "zeros_446000.dat, zeros_2546000.dat", "6 "),
        (200_000_000, "zeros_26000.dat, …, zeros_80246000.dat", "43 "),
        (None, "zeros_26000.dat, …, zeros_30607946000.dat", "14,580 "),
    ],
)
def test_what_to_fetch_by_hand_of_the_whole_archive(max_zeros, names, files, server, settings, raw):
    server.faults[lmfdb.LISTING] = [HTML]
    with pytest.raises(ZetaError, match="a page of HTML") as caught:
        download.fetch(settings(max_zeros=max_zeros), raw)
    assert names in caught.value.remedy and f"({files}files, about " in caught.value.remedy
    assert ("max_zeros" in caught.value.remedy) == (max_zeros is not None)


@given(st.integers(1, 100_000_000_000))
def test_the_files_to_fetch_by_hand_suffice(max_zeros):
    heights = [14, 5000, 26000, 236000, *range(446000, 446000 + 2_100_000 * 14576, 2_100_000)]
    files = [Listed(f"zeros_{t}.dat", t, "") for t in heights[::40]]
    enough, sure = (f(files, max_zeros) for f in (lmfdb.surely_enough, surely_needed))
    assert sure <= enough <= sure + 1
    if enough < len(files):
        assert count_bounds(files[enough].height)[0] - count_bounds(14)[1] >= max_zeros


# Faults of the archive itself.


def serve(server, name, content):
    server.files[f"data/{name}"] = content
    listed = {n: server.files[f"data/{n}"] for n in NAMES}
    server.files[lmfdb.LISTING] = listing_of(listed)


AT_SOURCE = r"zeros_5100\.dat is as published \(md5 as in http://\S+/md5sum\.log\): the fault is at"


@pytest.mark.parametrize("fault", ["truncated", "another block", "near repeat", "zero", "garbage"])
def test_a_fault_of_the_archive_itself_is_not_fetched_again(fault, server, settings, raw, tmp_path):
    good = FILES["zeros_5100.dat"][:-27]
    serve(server, "zeros_5100.dat", {
        "truncated": good[:-5], "another block": good + FILES["zeros_5200.dat"][8:],
        "near repeat": good + good[8:-1] + b"?", "zero": good[:40] + bytes(13) + good[53:],
        "garbage": FILES["zeros_5100.dat"],
    }[fault])  # fmt: skip
    with pytest.raises(ZetaError, match=AT_SOURCE) as caught:
        download.fetch(settings(retries=0), raw)
        decode.decode_folder(raw, tmp_path / "zeros", "refuse")
    assert not re.search(r"[Ff]etch|again|-f download", caught.value.remedy)
    assert "\n" not in str(caught.value)
    assert server.fetched().count("zeros_5100.dat") == 1


def test_a_repeated_block_of_the_archive_is_passed_over(server, settings, raw, tmp_path, capsys):
    """As in zeros_2546000.dat (LMFDB issue 7122)."""
    last = FILES["zeros_5200.dat"]
    serve(server, "zeros_5200.dat", last + last[8:])
    found = download.fetch(settings(), raw)
    assert [b["offset"] for b in found["files"][3]["repeated_blocks"]] == [len(last)]
    assert decode.decode_folder(raw, tmp_path / "zeros") == found["zeros"]
    assert f"zeros_5200.dat at byte {len(last)}: block 2 repeats" in capsys.readouterr().out


# What is there.


def test_a_second_run_asks_for_the_listing_only(server, settings, raw):
    download.fetch(settings(), raw)
    before = {path.name: path.stat().st_mtime_ns for path in raw.glob("zeros*")}
    server.fetched()
    download.fetch(settings(), raw)
    assert server.fetched() == [lmfdb.LISTING]
    assert_whole(raw)
    assert {path.name: path.stat().st_mtime_ns for path in raw.glob("zeros*")} == before


def test_good_files_stay_after_a_failure_and_the_rest_follows(server, settings, raw):
    server.faults["data/zeros_5200.dat"] = [status(404)]
    with pytest.raises(ZetaError, match=r"zeros_5200\.dat: HTTP 404 .*md5sum\.log names it"):
        download.fetch(settings(connections=1), raw)
    assert sorted(contents(raw)) == sorted(NAMES[:3])
    server.fetched()
    download.fetch(settings(), raw)
    assert server.fetched() == [lmfdb.LISTING, "zeros_5200.dat"]
    assert_whole(raw)


def test_one_failure_stops_the_other_connections(server, settings, raw):
    """The other file's bytes come slowly, for longer than this test may take."""
    slow = threading.Event()

    def drip(handler, path):
        content = handler.server.files[path]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for k in range(1000):
            handler.wfile.write(content[k : k + 1])
            slow.set()
            time.sleep(0.02)

    def fail(handler, _):
        slow.wait(5)
        handler.reply(404, b"")

    server.faults = {DATA: [drip], "data/zeros_5000.dat": [fail]}
    with pytest.raises(ZetaError, match=r"zeros_5000\.dat: HTTP 404"):
        download.fetch(settings(), raw)
    assert 0 < len(contents(raw)[".zeros_14.dat.partial"]) < 500


def test_a_failed_listing_leaves_the_folder_as_it_was(server, settings, raw):
    download.fetch(settings(), raw)
    before = contents(raw)
    server.files.pop(lmfdb.LISTING)
    with pytest.raises(ZetaError, match=r"md5sum\.log: HTTP 404"):
        download.fetch(settings(), raw)
    assert contents(raw) == before


def test_a_damaged_file_is_not_replaced_unasked_and_its_other_link_untouched(
    server, settings, raw, tmp_path
):
    """As when DVC's cache holds a hard link to it. It may be a user's own: only he deletes it."""
    download.fetch(settings(), raw)
    path, link = raw / "zeros_5000.dat", tmp_path / "cached"
    path.write_bytes(b"damaged")
    path.chmod(0o444)
    link.hardlink_to(path)
    with pytest.raises(ZetaError, match=r"zeros_5000\.dat: its md5 is not that of .* Move it out"):
        download.fetch(settings(), raw)
    assert path.read_bytes() == link.read_bytes() == b"damaged"
    path.unlink()
    server.fetched()
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert server.fetched() == [lmfdb.LISTING, "zeros_5000.dat"]
    assert link.read_bytes() == b"damaged"


def leave_foreign_files(raw):
    """A user's own files where the source writes: one of the archive, a wrong one, and others."""
    raw.mkdir()
    (raw / "zeros_14.dat").write_bytes(FILES["zeros_14.dat"])
    (raw / "zeros_5000.dat").write_bytes(FILES["zeros_5000.dat"][:-1] + b"?")
    (raw / "zeros_77.dat").write_bytes(b"not of the archive")
    (raw / "notes").mkdir()
    (raw / "notes" / "a.txt").write_text("a")
    (raw / ".zeros_99.dat.partial").write_bytes(b"?")
    (raw / "elsewhere").symlink_to(raw.parent)


def test_a_users_files_are_never_deleted_but_named_one_by_one(server, settings, raw):
    leave_foreign_files(raw)
    for name in ("elsewhere", "notes/a.txt", "zeros_77.dat"):
        before = sorted(raw.rglob("*"))
        with pytest.raises(ZetaError, match=f"{name}: this file is not one that the pipeline"):
            download.fetch(settings(), raw)
        assert sorted(raw.rglob("*")) == before
        (raw / name).unlink()
    with pytest.raises(ZetaError, match=r"zeros_5000\.dat: its md5 is not that of"):
        download.fetch(settings(), raw)
    (raw / "zeros_5000.dat").unlink()
    server.fetched()
    download.fetch(settings(), raw)
    assert_whole(raw)
    assert "zeros_14.dat" not in server.fetched()


def test_a_users_copy_that_is_not_asked_for_stays(server, settings, raw):
    raw.mkdir()
    (raw / NAMES[-1]).write_bytes(FILES[NAMES[-1]])
    with pytest.raises(ZetaError, match=f"{NAMES[-1]}: this file is not one that the pipeline"):
        download.fetch(settings(max_zeros=1), raw)
    assert (raw / NAMES[-1]).read_bytes() == FILES[NAMES[-1]]


def test_what_an_earlier_run_fetched_beyond_need_goes(server, settings, raw):
    download.fetch(settings(), raw)
    download.fetch(settings(max_zeros=1), raw)
    assert_whole(raw, NAMES[:1])


def test_no_manifest_while_files_are_missing(server, settings, raw):
    download.fetch(settings(max_zeros=1), raw)
    seen = []
    for name in NAMES[1:]:
        server.faults[f"data/{name}"] = [
            lambda handler, path: (
                seen.append(sorted(p.name for p in raw.iterdir())),
                handler.serve(handler.server.files[path]),
            )
        ]
    download.fetch(settings(connections=1), raw)
    assert seen[0] == ["zeros_14.dat"]
    assert len(seen) == 3 and not any(manifest.NAME in names for names in seen)


def test_another_source_replaces_the_archives_files_whole(
    server, settings, raw, tmp_path, defaults
):
    download.fetch(settings(), raw)
    (raw / ".zeros_99.dat.partial").write_bytes(b"?")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "zeros_14.dat").write_bytes(FILES["zeros_14.dat"])
    params = changed(defaults.download, source="directory", directory=str(mine))
    download.fetch(params, raw)
    assert_whole(raw, NAMES[:1], "directory")


def test_no_room_is_said_before_anything_changes(server, settings, raw, monkeypatch):
    raw.mkdir()
    (raw / "zeros_14.dat").write_bytes(FILES["zeros_14.dat"])
    (raw / ".zeros_5000.dat.partial").write_bytes(b"?")
    before = sorted(path.name for path in raw.iterdir())
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(lmfdb.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ZetaError, match=r"4 of the archive's 4 files .* has 100 B free"):
        download.fetch(settings(), raw)
    assert server.fetched() == [lmfdb.LISTING]
    assert sorted(path.name for path in raw.iterdir()) == before


def test_a_write_that_fails_is_one_line_and_resumes(server, settings, raw):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(ZetaError, match=r"raw.*File too large.*Free room"):
            download.fetch(settings(max_zeros=1), raw)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(contents(raw)) == [".zeros_14.dat.partial"]
    download.fetch(settings(max_zeros=1), raw)
    assert_whole(raw, NAMES[:1])


def test_a_full_disk_keeps_what_is_good(server, settings, raw, monkeypatch):
    """A real one, where mounting is allowed."""
    raw.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(raw)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        usage = type("Usage", (), {"free": 10**9})  # as if filled by others meanwhile
        monkeypatch.setattr(lmfdb.shutil, "disk_usage", lambda _: usage)
        (raw / "zeros_5000.dat").write_bytes(FILES["zeros_5000.dat"])
        with pytest.raises(ZetaError, match="No space left on device.*Free room"):
            download.fetch(settings(connections=1), raw)
        assert (raw / "zeros_5000.dat").read_bytes() == FILES["zeros_5000.dat"]
        assert not (raw / manifest.NAME).exists()
        subprocess.run(["mount", "-o", "remount,size=400k", str(raw)], check=True)
        download.fetch(settings(), raw)
        assert_whole(raw)
    finally:
        subprocess.run(["umount", str(raw)], check=True)


def test_a_killed_download_goes_on_where_it_was(server, tmp_path, raw):
    """SIGKILL to the real stage with half of the first file on disk."""
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["download"].update(source="lmfdb", url=server.url)
    YAML().dump(params, tmp_path / "params.yaml")
    command = [sys.executable, "-m", "pipeline.download"]
    run = functools.partial(
        subprocess.Popen,
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server.faults[DATA] = [stall(30_000)]
    partial = tmp_path / "data" / "raw" / ".zeros_14.dat.partial"
    with run() as process:
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size == 30_000):
            assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (partial.parent / manifest.NAME).exists()
    server.fetched()
    with run() as process:
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert re.search(r"zeros in 4 files from lmfdb", said)
    assert_whole(tmp_path / "data" / "raw")
    ranges = {path.rpartition("/")[2]: headers.get("Range") for path, headers in server.log}
    assert ranges["zeros_14.dat"] == "bytes=30000-"


# What is said meanwhile.


def test_progress_at_each_files_end_and_every_few_seconds(capsys):
    ticks = itertools.chain([0.0, 1.0, 6.0, 6.0, 7.0, 10.0, 10.0, 20.0, 20.0], itertools.repeat(30))
    progress = lmfdb._Progress({"a": 4_000_000, "b": 4_000_000}, lambda: next(ticks))
    progress.received("a", 1_000_000, 1_000_000)  # at 1 s: too early
    progress.received("a", 3_000_000, 2_000_000)  # at 6 s
    progress.received("a", 4_000_000, 1_000_000)  # at 7 s: too early
    progress.fetched("a")  # at 10 s
    progress.kept("b", 6_000_000)  # at 10 s
    assert capsys.readouterr().out.splitlines() == [
        "a: 0 of 2 files, 3 MB of 8 MB, 500 kB/s, 10 s left",
        "a done: 1 of 2 files, 4 MB of 8 MB, 400 kB/s, 10 s left",
    ]


def test_what_is_planned_and_done_is_printed(server, settings, raw, capsys):
    download.fetch(settings(max_zeros=4521), raw)
    said = capsys.readouterr().out
    assert "1 of the archive's 4 files planned, about 58.7 kB; 0 of these names" in said
    assert "zeros_14.dat done: 1 of 1 files, 58.8 kB of 58.8 kB" in said
    assert "zeros_5000.dat done: 2 of 2 files" in said
