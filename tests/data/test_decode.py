"""Decoding a folder: exact gaps across files, and every way a folder can be wrong."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import synthetic_blocks, write_folder

from zetalib.archive import codec, fixed_point, manifest
from zetalib.archive.codec import Block, Header
from zetalib.data import decode, parquet_folders
from zetalib.errors import ZetaError


def paths(folder):
    return [part.path for part in parquet_folders.parts(folder)]


@pytest.fixture
def raw(tmp_path):
    blocks = synthetic_blocks(5, (14.0, 100.0, 200.0, 300.0, 400.0))
    return write_folder(tmp_path / "raw", {14.0: blocks[:2], 200.0: blocks[2:3], 300.0: blocks[3:]})


def test_gaps_are_exact_over_the_whole_folder(raw, tmp_path):
    assert decode.decode_folder(raw, tmp_path / "zeros") == 80
    exact = [
        z
        for path in codec.numeric_order(raw)
        for block in codec.read_blocks(path)
        for z in fixed_point.to_ints(block.heights)
    ]
    tables = [pq.read_table(path) for path in paths(tmp_path / "zeros")]
    n, gamma, gap = (
        np.concatenate([t[c].to_numpy() for t in tables]) for c in ("n", "gamma", "gap")
    )
    assert n.tolist() == list(range(1, 81))
    assert gamma.tolist() == [z / 2**101 for z in exact]
    assert gap[:-1].tolist() == [(b - a) / 2**101 for a, b in itertools.pairwise(exact)]
    assert tables[-1]["gap"].null_count == 1 and sum(t["gap"].null_count for t in tables) == 1


def test_a_file_without_zeros_does_not_break_the_gap(tmp_path):
    a, b = synthetic_blocks(6, (14.0, 20.0)), synthetic_blocks(7, (21.0, 27.0), n0=20)
    empty = [Block(Header(20.0, 21.0, 20, 20, 0), fixed_point.from_ints([]))]
    raw = write_folder(tmp_path / "raw", {14.0: a, 20.0: empty, 21.0: b})
    assert decode.decode_folder(raw, tmp_path / "zeros") == 40
    last = pq.read_table(tmp_path / "zeros" / "zeros_14.parquet")["gap"][-1].as_py()
    expected = fixed_point.to_ints(b[0].heights)[0] - fixed_point.to_ints(a[0].heights)[-1]
    assert last == expected / 2**101


def refused(raw, tmp_path, match, **options):
    with pytest.raises(ZetaError, match=match):
        decode.decode_folder(raw, tmp_path / "zeros", **options)
    assert not (tmp_path / "zeros" / parquet_folders.INDEX).exists(), "does not look whole"
    assert not list(tmp_path.rglob(".*partial")), "no half-written output"


def test_garbage_is_reported_or_refused_as_asked(raw, tmp_path, capsys):
    path = raw / "zeros_200.dat"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x" * 77)
    manifest.write(raw, "test")
    refused(raw, tmp_path, rf"zeros_200\.dat at byte {size}: 77 bytes after", garbage="refuse")
    assert decode.decode_folder(raw, tmp_path / "zeros") == 80
    assert "77 bytes of garbage after the last block, ignored" in capsys.readouterr().out


def test_a_file_lost_since_the_download_is_named(raw, tmp_path):
    (raw / "zeros_300.dat").unlink()
    refused(raw, tmp_path, r"zeros_300\.dat: the manifest names this file, and it is missing")


def test_a_file_of_another_source_is_named(raw, tmp_path):
    (raw / "zeros_400.dat").write_bytes(codec.encode(synthetic_blocks(1, (400.0, 500.0), n0=80)))
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
        decode.decode_folder(raw, tmp_path / name)
    for path in paths(tmp_path / "one"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_row_groups_are_runs_of_blocks_with_exact_gaps_between_them(raw, tmp_path, monkeypatch):
    decode.decode_folder(raw, tmp_path / "one")
    monkeypatch.setattr(parquet_folders, "ROWS", 20)
    decode.decode_folder(raw, tmp_path / "many")
    assert parquet_folders.groups(tmp_path / "one" / "zeros_14.parquet") == [40]
    assert parquet_folders.groups(tmp_path / "many" / "zeros_14.parquet") == [20, 20]
    for path in paths(tmp_path / "one"):
        assert pq.read_table(path).equals(pq.read_table(tmp_path / "many" / path.name))


@pytest.mark.parametrize("zeros_in_it", [(0,), (7,), (3, 0, 4), (0, 0, 9, 1)])
def test_runs_leave_out_no_block_with_zeros(zeros_in_it, monkeypatch):
    monkeypatch.setattr(parquet_folders, "ROWS", 4)
    ends = list(itertools.accumulate(zeros_in_it, initial=0))
    headers = [Header(0.0, 1.0, a, b, 0) for a, b in itertools.pairwise(ends)]
    runs = [headers[a:b] for a, b in decode._runs(headers)]
    assert sum(run[-1].n1 - run[0].n0 for run in runs) == sum(zeros_in_it)
    assert all(run[-1].n1 - run[0].n0 <= 4 or sum(h.n1 > h.n0 for h in run) == 1 for run in runs)
    assert [h for run in runs for h in run if h.n1 > h.n0] == [h for h in headers if h.n1 > h.n0]


def test_only_new_files_and_the_one_before_are_decoded_again(raw, tmp_path, monkeypatch, capsys):
    new = raw / "zeros_400.dat"
    blocks = synthetic_blocks(9, (400.0, 500.0), n0=80)
    decode.decode_folder(raw, tmp_path / "zeros")
    before = contents(tmp_path / "zeros")
    new.write_bytes(codec.encode(blocks))
    manifest.write(raw, "test")
    decoded, decode_run = [], codec.decode_run

    def watched(path, *rest):
        decoded.append(path.name)
        return decode_run(path, *rest)

    monkeypatch.setattr(codec, "decode_run", watched)
    assert decode.decode_folder(raw, tmp_path / "zeros") == 100
    assert decoded == ["zeros_300.dat", "zeros_400.dat"]
    assert capsys.readouterr().out.count("kept") == 2
    decode.decode_folder(raw, tmp_path / "fresh")
    assert contents(tmp_path / "zeros") == contents(tmp_path / "fresh")
    # And back: the file is gone, its neighbour ends in a null again.
    new.unlink()
    manifest.write(raw, "test")
    decode.decode_folder(raw, tmp_path / "zeros")
    assert contents(tmp_path / "zeros") == before


def test_a_kept_file_is_not_touched_and_a_read_only_link_not_written_through(raw, tmp_path):
    """As DVC may leave them: links into its cache."""
    out, cache = tmp_path / "zeros", tmp_path / "cache"
    decode.decode_folder(raw, out)
    cache.mkdir()
    for k, path in enumerate(sorted(out.iterdir())):
        path.rename(cache / path.name)
        (cache / path.name).chmod(0o444)
        path.symlink_to(cache / path.name) if k % 2 else path.hardlink_to(cache / path.name)
    cached = contents(cache)
    blocks = synthetic_blocks(8, (200.0, 300.0), n0=40)
    (raw / "zeros_200.dat").write_bytes(codec.encode(blocks))
    manifest.write(raw, "test")
    decode.decode_folder(raw, out)
    assert contents(cache) == cached
    decode.decode_folder(raw, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh") != cached


def test_a_file_changed_behind_the_manifest_is_not_taken_for_done(raw, tmp_path):
    decode.decode_folder(raw, tmp_path / "zeros")
    path = raw / "zeros_300.dat"
    content = bytearray(path.read_bytes())
    content[40] ^= 1  # the lowest bit of a distance: nothing but the md5 can tell
    path.write_bytes(content)
    refused(raw, tmp_path, r"zeros_300\.dat: its md5 is not the manifest's")


def test_other_code_decodes_everything_anew(raw, tmp_path, monkeypatch, capsys):
    decode.decode_folder(raw, tmp_path / "zeros")
    monkeypatch.setattr(decode, "_CODE", "later")
    decode.decode_folder(raw, tmp_path / "zeros")
    assert "kept" not in capsys.readouterr().out


def test_a_worker_with_other_code_is_refused(raw, tmp_path):
    with pytest.raises(ZetaError, match="a Dask worker runs other code"):
        decode.decode(raw / "zeros_14.dat", [], None, "", tmp_path / "x.parquet", "older")


def test_what_a_crash_leaves_is_cleared_away_and_what_it_finished_is_kept(raw, tmp_path, capsys):
    decode.decode_folder(raw, tmp_path / "fresh")
    decode.decode_folder(raw, out := tmp_path / "zeros")
    (out / parquet_folders.INDEX).unlink()
    (out / "zeros_200.parquet").unlink()
    (out / "zeros_14.parquet").write_bytes((out / "zeros_14.parquet").read_bytes()[:-9])
    (out / ".zeros_200.parquet.0123.partial").write_bytes(b"half")
    capsys.readouterr()
    decode.decode_folder(raw, out)
    assert contents(out) == contents(tmp_path / "fresh")
    assert capsys.readouterr().out.count("kept") == 1


def test_a_data_set_that_is_not_whole_is_refused(raw, tmp_path):
    decode.decode_folder(raw, out := tmp_path / "zeros")
    whole = contents(out)
    for name, content, match in [
        (parquet_folders.INDEX, None, "the data set is not whole: no good _index.json"),
        (
            parquet_folders.INDEX,
            b'{"files": [{}]}',
            "the data set is not whole: no good _index.json",
        ),
        ("zeros_300.parquet", None, r"zeros_300\.parquet: missing, and _index\.json names it"),
        ("zeros_300.parquet", b"PAR1", r"zeros_300\.parquet: .* of another size"),
        ("zeros_400.parquet", b"PAR1", r"zeros_400\.parquet: .* unknown there"),
    ]:
        (out / name).unlink(missing_ok=True)
        if content is not None:
            (out / name).write_bytes(content)
        with pytest.raises(ZetaError, match=match):
            parquet_folders.parts(out)
        (out / name).unlink(missing_ok=True)
        if name in whole:
            (out / name).write_bytes(whole[name])
    assert [part.rows for part in parquet_folders.parts(out)] == [40, 20, 20]


def test_a_flipped_bit_in_the_data_is_found_on_reading(raw, tmp_path):
    decode.decode_folder(raw, tmp_path / "zeros")
    path = tmp_path / "zeros" / "zeros_14.parquet"
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(1)
    content[column.data_page_offset + column.total_compressed_size - 5] ^= 8
    path.write_bytes(content)
    with pytest.raises(ZetaError, match=r"zeros_14\.parquet: damaged in row group 0"):
        parquet_folders.read_group(path, 0, ["gamma"])


def test_a_data_set_is_read_by_others_as_a_folder(raw, tmp_path):
    """pandas and pyarrow pass over the index; an index of the former name goes."""
    import pandas as pd
    import pyarrow.dataset as ds

    from zetalib.data import unfold

    count = decode.decode_folder(raw, out := tmp_path / "zeros")
    (out / "index.json").write_text("{}")
    decode.decode_folder(raw, out)
    assert sorted(p.name for p in out.iterdir() if p.suffix != ".parquet") == ["_index.json"]
    unfold.unfold_folder(out, tmp_path / "spacings")
    for folder, rows, columns in (
        (out, count, ["n", "gamma", "gap"]),
        (tmp_path / "spacings", count - 1, ["n", "gamma", "spacing"]),
    ):
        found = pd.read_parquet(folder)
        assert len(found) == rows and list(found.columns) == columns
        assert sorted(found["n"]) == list(range(1, rows + 1))
        assert ds.dataset(folder).count_rows() == rows
        assert pq.read_table(folder).num_rows == rows
