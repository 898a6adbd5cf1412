import json
import pickle
import zlib

import numpy as np
import pytest
from conftest import PLATT, changed, synthetic_blocks, write_folder

from zetalib.archive import codec, layout, manifest
from zetalib.data import decode
from zetalib.errors import ZetaError
from zetalib.sources import download


def test_a_pickle_of_floats_is_read_without_unpickling():
    values = [14.134725142, 21.022039639, 25.01085758] * 700
    assert download.floats_of_pickle(pickle.dumps(values, protocol=2)).tolist() == values


class Malicious:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize("content", [[Malicious()], [1], ["14.1"], {"a": 1.0}, [1.0, None]])
def test_a_pickle_of_anything_else_is_refused_and_never_run(content, capsys):
    with pytest.raises(ValueError, match="not a float list"):
        download.floats_of_pickle(pickle.dumps(content, protocol=2))
    assert capsys.readouterr().out == ""


def lmfdb_heights():
    return codec.decode_file(PLATT, None)[1]


def test_floats_become_archive_files_that_decode_to_the_same_floats(tmp_path):
    gamma = np.concatenate([lmfdb_heights(), np.arange(5001.0, 9300.0, 1.7)])
    for name, content in layout.files(gamma):
        (tmp_path / name).write_bytes(content)
    names = [p.name for p in codec.numeric_order(tmp_path)]
    assert names == ["zeros_14.dat", "zeros_5000.dat"]
    headers, trailing = codec.read_headers(tmp_path / "zeros_5000.dat")
    assert [h.t0 for h in headers] == [5000.0, 7100.0, 9200.0] and trailing == 0
    assert headers[-1].t1 == gamma[-1] and headers[-1].n1 == len(gamma)
    decoded = np.concatenate([codec.decode_file(tmp_path / n, None)[1] for n in names])
    assert decoded.tolist() == gamma.tolist()


def fake_pip(monkeypatch, tmp_path, packed):
    """pip replaced by a command that leaves a wheel with `packed` as the table."""
    import zipfile

    def run(command, **_):
        destination = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{destination}/table.whl", "w") as wheel:
            wheel.writestr(download.ODLYZKO_MEMBER, packed)
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(download.subprocess, "run", run)


def test_odlyzko_table_with_another_digest_is_refused(monkeypatch, tmp_path, defaults):
    fake_pip(monkeypatch, tmp_path, zlib.compress(pickle.dumps([14.1, 21.0], protocol=2)))
    with pytest.raises(ZetaError, match="sha256 is .*, expected 1cebd3bf"):
        download.fetch(defaults.download, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_failing_pip_is_one_clear_line(monkeypatch, tmp_path, defaults):
    done = type("Done", (), {"returncode": 1, "stderr": "noise\nERROR: No matching distribution\n"})
    monkeypatch.setattr(download.subprocess, "run", lambda *_, **__: done())
    with pytest.raises(ZetaError, match="pip could not download it .*No matching distribution"):
        download.fetch(defaults.download, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def directory_of(defaults, folder, **changes):
    return changed(defaults.download, source="directory", directory=str(folder), **changes)


@pytest.fixture
def three_files(tmp_path):
    blocks = synthetic_blocks(3, (14.0, 100.0, 200.0, 300.0))
    files = {b.header.t0: [b] for b in blocks}
    return write_folder(tmp_path / "mine", files)


def test_directory_takes_the_files_and_describes_them(three_files, tmp_path, defaults):
    (three_files / manifest.NAME).unlink()
    found = download.fetch(directory_of(defaults, three_files), tmp_path / "raw")
    assert found == json.loads((tmp_path / "raw" / manifest.NAME).read_text())
    assert found["zeros"] == 60 and found["source"] == "directory"
    assert [(f["name"], f["first_rank"], f["last_rank"]) for f in found["files"]] == [
        ("zeros_14.dat", 1, 20), ("zeros_100.dat", 21, 40), ("zeros_200.dat", 41, 60),
    ]  # fmt: skip
    assert decode.decode_folder(tmp_path / "raw", tmp_path / "zeros") == 60


def test_the_users_own_files_are_left_alone(three_files, tmp_path, defaults):
    """A link would let DVC's read-only cache reach the originals."""
    before = {path: path.read_bytes() for path in three_files.iterdir()}
    download.fetch(directory_of(defaults, three_files), tmp_path / "raw")
    for path, content in before.items():
        assert path.read_bytes() == content and path.stat().st_nlink == 1


def test_directory_takes_only_the_files_needed(three_files, tmp_path, defaults):
    found = download.fetch(directory_of(defaults, three_files, max_zeros=21), tmp_path / "raw")
    assert found["zeros"] == 40


def test_directory_must_hold_as_many_zeros_as_asked_for(three_files, tmp_path, defaults):
    with pytest.raises(ZetaError, match="download.max_zeros: it asks for 61 zeros, .* has 60"):
        download.fetch(directory_of(defaults, three_files, max_zeros=61), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_counts_that_disagree_where_files_meet_are_named(three_files, tmp_path, defaults):
    other = synthetic_blocks(9, (200.0, 300.0), n0=41)
    (three_files / "zeros_200.dat").write_bytes(codec.encode(other))
    with pytest.raises(ZetaError, match=r"zeros_200\.dat .* its count disagrees with that of the"):
        download.fetch(directory_of(defaults, three_files), tmp_path / "raw")


@pytest.mark.parametrize("folder", [None, "/nowhere/at/all"])
def test_directory_must_be_given_and_exist(folder, tmp_path, defaults):
    with pytest.raises(ZetaError, match=r"params\.yaml: download\.directory"):
        download.fetch(
            changed(defaults.download, source="directory", directory=folder), tmp_path / "raw"
        )


def test_a_missing_file_in_the_middle_is_named(three_files, tmp_path, defaults):
    (three_files / "zeros_100.dat").unlink()
    with pytest.raises(
        ZetaError, match=r"mine/zeros_200\.dat .*20 zeros are missing before it.*Add zeros_100\.dat"
    ):
        download.fetch(directory_of(defaults, three_files), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_overlapping_files_are_named(three_files, tmp_path, defaults):
    overlap = synthetic_blocks(9, (90.0, 200.0), n0=15)
    (three_files / "zeros_90.dat").write_bytes(codec.encode(overlap))
    with pytest.raises(ZetaError, match=r"zeros_90\.dat .* overlaps the file before it"):
        download.fetch(directory_of(defaults, three_files), tmp_path / "raw")


def test_a_renamed_file_is_named(three_files, tmp_path, defaults):
    (three_files / "zeros_200.dat").rename(three_files / "zeros_150.dat")
    with pytest.raises(ZetaError, match=r"its name says 150.*Rename it to zeros_200\.dat"):
        download.fetch(directory_of(defaults, three_files), tmp_path / "raw")
