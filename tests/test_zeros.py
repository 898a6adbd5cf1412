"""Decoding a folder: exact gaps across files, and every way a folder can be wrong."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import synthetic_blocks, write_folder

from zetalib import fixed, manifest, platt, zeros
from zetalib.errors import ZetaError
from zetalib.platt import Block, Header
from zetalib.tables import parquet_files


@pytest.fixture
def raw(tmp_path):
    blocks = synthetic_blocks(5, (14.0, 100.0, 200.0, 300.0, 400.0))
    return write_folder(tmp_path / "raw", {14.0: blocks[:2], 200.0: blocks[2:3], 300.0: blocks[3:]})


def test_gaps_are_exact_over_the_whole_folder(raw, tmp_path):
    assert zeros.decode_folder(raw, tmp_path / "zeros") == 80
    exact = [
        z
        for path in platt.numeric_order(raw)
        for block in platt.read_blocks(path)
        for z in fixed.to_ints(block.heights)
    ]
    tables = [pq.read_table(path) for path in parquet_files(tmp_path / "zeros")]
    n, gamma, gap = (
        np.concatenate([t[c].to_numpy() for t in tables]) for c in ("n", "gamma", "gap")
    )
    assert n.tolist() == list(range(1, 81))
    assert gamma.tolist() == [z / 2**101 for z in exact]
    assert gap[:-1].tolist() == [(b - a) / 2**101 for a, b in itertools.pairwise(exact)]
    assert tables[-1]["gap"].null_count == 1 and sum(t["gap"].null_count for t in tables) == 1


def test_a_file_without_zeros_does_not_break_the_gap(tmp_path):
    a, b = synthetic_blocks(6, (14.0, 20.0)), synthetic_blocks(7, (21.0, 27.0), n0=20)
    empty = [Block(Header(20.0, 21.0, 20, 20, 0), fixed.from_ints([]))]
    raw = write_folder(tmp_path / "raw", {14.0: a, 20.0: empty, 21.0: b})
    assert zeros.decode_folder(raw, tmp_path / "zeros") == 40
    last = pq.read_table(tmp_path / "zeros" / "zeros_14.parquet")["gap"][-1].as_py()
    expected = fixed.to_ints(b[0].heights)[0] - fixed.to_ints(a[0].heights)[-1]
    assert last == expected / 2**101


def refused(raw, tmp_path, match, **options):
    with pytest.raises(ZetaError, match=match):
        zeros.decode_folder(raw, tmp_path / "zeros", **options)
    assert not (tmp_path / "zeros").exists()
    assert not list(tmp_path.glob(".*partial")), "no half-written output"


def test_garbage_is_reported_or_refused_as_asked(raw, tmp_path, capsys):
    path = raw / "zeros_200.dat"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x" * 77)
    manifest.write(raw, "test")
    refused(raw, tmp_path, rf"zeros_200\.dat at byte {size}: 77 bytes after", garbage="refuse")
    assert zeros.decode_folder(raw, tmp_path / "zeros") == 80
    assert "77 bytes of garbage after the last block, ignored" in capsys.readouterr().out


def test_a_file_lost_since_the_download_is_named(raw, tmp_path):
    (raw / "zeros_300.dat").unlink()
    refused(raw, tmp_path, r"zeros_300\.dat: the manifest names this file, and it is missing")


def test_a_file_of_another_source_is_named(raw, tmp_path):
    (raw / "zeros_400.dat").write_bytes(platt.encode(synthetic_blocks(1, (400.0, 500.0), n0=80)))
    refused(raw, tmp_path, r"zeros_400\.dat: the manifest does not know this file")


def test_a_file_cut_short_since_the_download_is_named(raw, tmp_path):
    path = raw / "zeros_200.dat"
    path.write_bytes(path.read_bytes()[:-5])
    refused(raw, tmp_path, r"zeros_200\.dat at byte \d+: \d+ bytes, the manifest says \d+")


@pytest.mark.parametrize("content", ["", "[]", '{"files": [{}]}'])
def test_a_broken_manifest_is_named(raw, tmp_path, content):
    (raw / manifest.NAME).write_text(content)
    refused(raw, tmp_path, r"manifest\.json: the manifest cannot be read")


def test_files_that_do_not_chain_are_refused_even_if_the_manifest_agrees(raw, tmp_path):
    (raw / "zeros_200.dat").unlink()
    content = json.loads((raw / manifest.NAME).read_text())
    content["files"] = [f for f in content["files"] if f["name"] != "zeros_200.dat"]
    (raw / manifest.NAME).write_text(json.dumps(content))
    refused(raw, tmp_path, r"20 zeros are missing before it.*Add zeros_200\.dat")


def test_a_zero_distance_leaves_nothing_behind(raw, tmp_path):
    path = raw / "zeros_200.dat"
    content = bytearray(path.read_bytes())
    content[40 + 13 : 40 + 26] = bytes(13)
    path.write_bytes(content)
    refused(raw, tmp_path, "rank 42 is zero: two equal zeros")


def test_decoding_twice_gives_the_same_bytes(raw, tmp_path):
    for name in ("one", "two"):
        zeros.decode_folder(raw, tmp_path / name)
    for path in parquet_files(tmp_path / "one"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
