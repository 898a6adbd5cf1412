"""Listings of md5s beside the user's files, and what is said of a file that is as published."""

import codecs
import hashlib
import json
import os
import random
import re
import shutil
import struct
import subprocess

import pytest
from conftest import PLATT, changed, synthetic_blocks

from benchmarks import fuzz_listings
from zetalib.archive import codec, manifest
from zetalib.data import decode
from zetalib.errors import ZetaError
from zetalib.sources import download, listings

FILES = {
    codec.file_name(b.header.t0): codec.encode([b])
    for b in synthetic_blocks(3, (14.0, 100.0, 200.0, 300.0))
}
NAMES = list(FILES)


def md5(content):
    return hashlib.md5(content).hexdigest()


def gnu(files=FILES, mark=" ", prefix=""):
    return "".join(f"{md5(c)} {mark}{prefix}{n}\n" for n, c in files.items())


def tagged(files=FILES, form="MD5 ({}) = {}\n"):
    return "".join(form.format(n, md5(c)) for n, c in files.items())


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "archive" / "data"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def fetch(mine, tmp_path, defaults):
    def run(**changes):
        params = changed(defaults.download, source="directory", directory=str(mine), **changes)
        download.fetch(params, tmp_path / "raw")
        return json.loads((tmp_path / "raw" / manifest.NAME).read_text())["files"]

    return run


def vouched(files):
    return {f["name"]: f.get("listing") for f in files}


FORMS = {
    "GNU text": gnu(),
    "GNU binary": gnu(mark="*"),
    "with paths": gnu(prefix="./data/"),
    "with other paths": gnu(prefix="/mnt/old disk/platt/", mark="*"),
    "of Windows": gnu(prefix="data\\", mark="*").replace("\n", "\r\n"),
    "upper case": gnu().upper().replace("ZEROS_", "zeros_").replace(".DAT", ".dat"),
    "one blank": gnu(mark="")[:-1],  # md5 -r; no line end
    "BSD": tagged(),
    "openssl": tagged(form="MD5({})= {}\n"),
    "escaped": "\\" + f"{'0' * 32}  not\\\\this\\none\n" + gnu(),
    "escaped paths": "".join(f"\\{md5(c)}  a\\\\b/{n}\n" for n, c in FILES.items()),
    "CRLF": gnu(mark="*").replace("\n", "\r\n"),
    "NUL": gnu().replace("\n", "\0"),
    "with comments": "# made by hand\n\n; 2026\n" + gnu() + "md5sum: old: Is a directory\n\n",
    "with others": f"{'0' * 32} *index.db\n" + gnu() + f"{'1' * 32}  zeros_99000.dat\n",
    "twice the same": gnu() + gnu(mark="*"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["md5sum.log", "md5.txt", "../md5sum.log", "sums of mine"])
def test_every_form_of_listing_is_used_and_finds_what_no_codec_can(form, where, mine, fetch):
    (mine / where).write_bytes(FORMS[form].encode())
    assert vouched(fetch()) == dict.fromkeys(NAMES, where)
    path = mine / NAMES[1]
    content = bytearray(path.read_bytes())
    at = 8 + 32 + 13 * 4 + 9
    content[at] ^= 1 << 5  # 2^-24 in one distance: 2^77 of 2^101
    path.write_bytes(content)
    assert len(codec.decode_file(path, None)[0]) == 20
    ours, theirs = md5(content), md5(FILES[NAMES[1]])
    match = rf"{NAMES[1]}: its md5 is {ours}, line \d+ of {re.escape(where)} says {theirs}\. Fetch"
    with pytest.raises(ZetaError, match=match):
        fetch()
    (mine / where).unlink()
    assert vouched(fetch()) == dict.fromkeys(NAMES)  # nothing else can tell


@pytest.mark.skipif(not shutil.which("md5sum"), reason="no md5sum here")
@pytest.mark.parametrize("options", [[], ["-b"], ["--tag"], ["-z"], ["--tag", "-b"]])
def test_what_md5sum_prints_is_read_as_it_says(options, mine, fetch):
    others = {} if "-z" in options else {"a\\b": b"1", "c\nd": b"2"}  # names that it escapes
    for name, content in others.items():
        (mine / name).write_bytes(content)
    names = [path.name for path in mine.iterdir()]
    said = subprocess.run(["md5sum", *options, *names], cwd=mine, capture_output=True, check=True)
    for name in others:
        (mine / name).unlink()
    entries = listings.parse(said.stdout.decode(), "x")
    assert {e.path: e.md5 for e in entries} == {n: md5(c) for n, c in {**FILES, **others}.items()}
    (mine / "md5sum.log").write_bytes(said.stdout)
    assert vouched(fetch()) == dict.fromkeys(NAMES, "md5sum.log")


def test_lmfdbs_own_line_vouches_for_lmfdbs_own_file(mine, fetch):
    shutil.rmtree(mine)
    mine.mkdir()
    (mine / "zeros_14.dat").write_bytes(PLATT.read_bytes())
    text = "56cfdb9e133098a294c145118fc33fa7 *zeros_14.dat\n"
    (mine.parent / "md5sum.log").write_text(text)
    assert vouched(fetch()) == {"zeros_14.dat": "../md5sum.log"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_powershell_saves_is_read(encoding, mine, fetch):
    (mine / "md5.txt").write_bytes(codecs.encode(gnu(), encoding))
    assert vouched(fetch()) == dict.fromkeys(NAMES, "md5.txt")


@pytest.mark.parametrize(
    "content", ["{md5}\n", "{md5}  {name}\n", "{md5}  -\n", "MD5 ({name}) = {md5}"]
)
@pytest.mark.parametrize("suffix", [".md5", ".md5sum"])
def test_a_file_of_its_own_md5_beside_each(content, suffix, mine, fetch):
    for name, data in list(FILES.items())[:2]:
        (mine / f"{name}{suffix}").write_text(content.format(md5=md5(data), name=name))
    assert vouched(fetch()) == {n: f"{n}{suffix}" if n != NAMES[2] else None for n in NAMES}
    (mine / f"{NAMES[0]}{suffix}").write_text(content.format(md5="0" * 32, name=NAMES[0]))
    with pytest.raises(
        ZetaError, match=rf"{NAMES[0]}: its md5 .* of {NAMES[0]}\{suffix} says 0000"
    ):
        fetch()


def test_a_file_that_no_listing_names_is_told(mine, fetch, capsys):
    (mine / "md5sum.log").write_text(gnu({n: FILES[n] for n in NAMES[:2]}))
    assert vouched(fetch()) == {**dict.fromkeys(NAMES[:2], "md5sum.log"), NAMES[2]: None}
    said = capsys.readouterr().out
    assert (
        f"2 of 3 files have the md5 of md5sum.log; not listed, so not checked: {NAMES[2]}" in said
    )


def test_without_a_listing_nothing_is_said_and_the_manifest_is_as_ever(mine, fetch, capsys):
    files = fetch()
    assert [list(f) for f in files] == [["name", "bytes", "md5", "first_rank", "last_rank"]] * 3
    assert [f["md5"] for f in files] == [md5(c) for c in FILES.values()]
    assert capsys.readouterr().out == ""


def test_only_files_that_are_taken_are_compared(mine, fetch):
    (mine / "md5sum.log").write_text(gnu({**FILES, NAMES[2]: b"other"}))
    assert vouched(fetch(max_zeros=40)) == dict.fromkeys(NAMES[:2], "md5sum.log")


@pytest.mark.parametrize("other", ["md5.txt", "../md5.txt", f"{NAMES[1]}.md5", "notes", None])
def test_listings_that_disagree_are_refused(other, mine, fetch):
    wrong = gnu({**FILES, NAMES[1]: b"other"})
    where = other or "md5sum.log"
    (mine / "md5sum.log").write_text(gnu() + ("" if other else wrong))
    if other:
        (mine / other).write_text(wrong)
    line = 2 if other else 5
    with pytest.raises(ZetaError) as caught:
        fetch()
    said = str(caught.value)
    assert where.removeprefix("../") in said.split(":")[0]
    assert f"line {line} says that the md5 of {NAMES[1]} is {md5(b'other')}, line 2 of" in said
    assert f"md5sum.log that it is {md5(FILES[NAMES[1]])}. Remove" in said and "\n" not in said


def test_listings_that_agree_are_both_told(mine, fetch, capsys):
    (mine / "md5sum.log").write_text(gnu(mark="*"))
    (mine.parent / "md5.txt").write_text(tagged())
    assert vouched(fetch()) == dict.fromkeys(NAMES, "md5sum.log")
    assert "3 of 3 files have the md5 of md5sum.log, ../md5.txt" in capsys.readouterr().out


HTML = "<!doctype html>\n<title>Are you human?</title>\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "a listing of md5s that lists nothing"),
        ("# only\n\n", "a listing of md5s that lists nothing"),
        (HTML, "a page of HTML, not a listing of md5s"),
        (gnu()[:-9] + "\nzeros", "line 4 is not '<md5> *<name>': 'zeros'"),
        (gnu() + md5(b"") + "\n", "line 4 is not '<md5> *<name>'"),
        (gnu()[1:], "line 1 is not '<md5> *<name>'"),
        ("\\" + gnu(prefix="\\x"), "line 1 is not '<md5> *<name>'"),
        (md5(b"") + "  " + "a" * 300 + "\n" + gnu(), "line 1 is not '<md5> *<name>'"),
        (b"\xff\xfe\0\0\1", "is not '<md5> *<name>'"),
        (bytes(range(256)), "is not '<md5> *<name>'"),
    ],
)
@pytest.mark.parametrize("name", ["md5sum.log", "md5.txt", f"{NAMES[0]}.md5"])
def test_a_damaged_listing_is_refused_by_line(name, content, problem, mine, fetch):
    content = content if isinstance(content, bytes) else content.encode()
    if name.endswith(".md5") and content == (gnu() + md5(b"") + "\n").encode():
        problem = "line 4 says that the md5"  # alone it is the file's own, and another
    (mine / name).write_bytes(content)
    with pytest.raises(ZetaError, match=re.escape(problem)) as caught:
        fetch()
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_listings_are_left_alone(mine, fetch):
    for name, content in {
        "README": b"The archive.\n", "index.db": b"SQLite format 3\0" + bytes(9000),
        "md5sum.py": b"import hashlib\n", "other.tar.md5": b"0" * 32 + b"\n",
        "other.md5": b"0" * 32 + b"  other\nrubbish\n", "cover.jpg": bytes(range(256)) * 40,
        "filelist": "\n".join(NAMES).encode(), ".hidden": gnu({NAMES[0]: b"?"}).encode(),
        "long": b"x" * 100_000,
    }.items():  # fmt: skip
        (mine / name).write_bytes(content)
    (mine / "MD5").mkdir()
    (mine.parent / "md5.txt").write_text("notes on md5\n")
    (mine.parent / "md5sum.txt").write_text(f"{'0' * 32}  another.iso\nand a word\n")
    (mine.parent / "MD5SUMS").write_bytes(b"")
    os.mkfifo(mine / "pipe")
    assert vouched(fetch()) == dict.fromkeys(NAMES)


def test_the_listing_above_a_link_is_that_of_the_folder_itself(mine, tmp_path, defaults):
    (mine.parent / "md5sum.log").write_text(gnu())
    (tmp_path / "link").symlink_to(mine)
    params = changed(defaults.download, source="directory", directory=str(tmp_path / "link"))
    found = download.fetch(params, tmp_path / "raw")
    assert vouched(found["files"]) == dict.fromkeys(NAMES, "../md5sum.log")


def test_copies_are_hashed_as_they_are_made(mine, fetch, monkeypatch):
    """No file is read a second time for its md5."""
    monkeypatch.setattr(manifest, "md5_of", lambda _: pytest.fail("read again"))
    assert [f["md5"] for f in fetch()] == [md5(c) for c in FILES.values()]


# Faults of files that are as published.


def put(content, at, piece):
    return content[:at] + piece + content[at + len(piece) :]


MIDDLE = FILES[NAMES[1]]
FAULTS = {
    "truncated": MIDDLE[:-5],
    "empty": b"",
    "no blocks": put(MIDDLE, 0, bytes(8)),
    "a block too many": put(MIDDLE, 0, struct.pack("<Q", 2)),
    "miscounted": put(MIDDLE, 32, struct.pack("<Q", 39)),
    "backwards": put(MIDDLE, 32, struct.pack("<Q", 3)),
    "heights": put(MIDDLE, 16, struct.pack("<d", 99.0)),
    "another block": MIDDLE + FILES[NAMES[2]][8:],
    "a near repeat": MIDDLE + put(MIDDLE[8:], 50, b"??"),
    "out of order": put(MIDDLE, 0, struct.pack("<Q", 2)) + struct.pack("<ddQQ", 500, 600, 90, 90),
    "a zero distance": put(MIDDLE, 40 + 13, bytes(13)),
    "beyond the end": put(MIDDLE, 40 + 13, b"\xff" * 13 * 15),
    "counts of the file before": put(MIDDLE, 24, struct.pack("<QQ", 21, 41)),
    "overlap": put(MIDDLE, 8, struct.pack("<d", 100.5))[:24] + struct.pack("<QQ", 15, 35) + MIDDLE[40:],
    "name": put(MIDDLE, 8, struct.pack("<d", 101.5)),
    "garbage": MIDDLE + b"x" * 30,
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_published_file_is_one_of_its_source(fault, mine, fetch, tmp_path):
    (mine / NAMES[1]).write_bytes(FAULTS[fault])

    def refused():
        with pytest.raises(ZetaError) as caught:
            fetch()
            decode.decode_folder(tmp_path / "raw", tmp_path / "zeros", "refuse")
        assert "\n" not in str(caught.value)
        return caught.value

    unlisted = refused()
    assert NAMES[1] in str(unlisted) and "as published" not in str(unlisted)
    (mine / "md5sum.log").write_text(gnu({**FILES, NAMES[1]: FAULTS[fault]}))
    published = refused()
    assert (published.where, published.offset, published.problem) == (
        unlisted.where, unlisted.offset, unlisted.problem,
    )  # fmt: skip
    said = published.remedy
    assert f"{NAMES[1]} " in said and "as published (md5 as in " in said and "md5sum.log)" in said
    assert "the fault is at its source" in said
    assert not re.search(r"[Ff]etch|again|-f download", said)
    assert ("decode.garbage" if fault == "garbage" else "download.max_zeros") in said
    (mine / "md5sum.log").write_text(gnu())  # the published file is another
    other = refused()
    theirs, ours = md5(FILES[NAMES[1]]), md5(FAULTS[fault])
    assert f"{NAMES[1]}: its md5 is {ours}, line 2 of md5sum.log says {theirs}" in str(other)


def test_a_fault_that_came_after_the_download_is_cured_by_another(mine, fetch, tmp_path):
    (mine / "md5sum.log").write_text(gnu())
    fetch()
    (tmp_path / "raw" / NAMES[1]).write_bytes(FAULTS["a zero distance"])
    match = r"its md5 is .*, md5sum\.log says .*; seen first at byte 53: .*Move it away, then `dvc repro"
    with pytest.raises(ZetaError, match=match):
        decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")


def test_a_missing_file_is_still_asked_for(mine, fetch):
    (mine / "md5sum.log").write_text(gnu())
    (mine / NAMES[1]).unlink()
    with pytest.raises(ZetaError, match=rf"20 zeros are missing before it.*Add {NAMES[1]}"):
        fetch()


def test_fuzz_for_a_moment(tmp_path):
    rng, seen = random.Random(9), {True: 0, False: 0}
    files, folder, whole = fuzz_listings.setting(tmp_path)
    for k in range(1500):
        beside, _ = fuzz_listings.case(rng, files)
        seen[fuzz_listings.check(beside, files, folder, None if k % 20 else whole)] += 1
        for content in beside.values():
            fuzz_listings.check_served(content)
    assert min(seen.values()) > 300
