import hashlib
import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import changed

from zetalib import compute
from zetalib.data import parquet_folders, window
from zetalib.errors import ZetaError
from zetalib.params import Compute


def record(m, seed=0):
    rng = np.random.default_rng(seed)
    spacing = rng.gamma(6, 1 / 6, m)
    n = np.arange(1, m + 1)
    return n, 14 + spacing.cumsum(), spacing


@pytest.mark.parametrize(
    ("windows", "val", "rest"),
    [(7816, 781, 7035), (781_249, 78_124, 703_125), (1_953_124, 195_312, 1_757_812)],
)
def test_split_sizes_are_the_published_ones(windows, val, rest, defaults):
    sizes = window.split_sizes(windows, defaults.window)
    assert sizes["val"] == val and sizes["train"] + sizes["calibration"] == rest


def write_spacings(folder, columns, cuts, rows=None):
    """A data set of spacings, cut into files at `cuts`, with row groups of `rows`."""
    table = pa.table(dict(zip(("n", "gamma", "spacing"), columns, strict=True)))
    bounds = [0, *cuts, len(table)]
    with parquet_folders.rebuilding(folder) as parts:
        for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
            path = folder / f"zeros_{14 + start + k}.parquet"
            with parquet_folders.writing(path, table.schema, "") as writer:
                piece = table.slice(start, stop - start)
                for at in range(0, len(piece), rows or len(table)):
                    writer.write_table(piece.slice(at, rows))
            parts.append(parquet_folders.whole(path))
    return folder


CUTS = [[], [1500], [1, 1499, 1500, 1500, 9999], list(range(100, 10_000, 457))]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("rows", [None, 333, 100])
def test_windows_are_consecutive_and_ordered_by_height(cuts, rows, tmp_path, defaults):
    """However files and row groups lie across windows and splits, and whoever does the reading."""
    n, gamma, spacing = record(10_007)
    write_spacings(tmp_path / "spacings", (n, gamma, spacing), cuts, rows)
    p = changed(defaults.window, length=100)
    with compute.pool(Compute(scheduler="threads", workers=2)) as pool:
        meta = window.window_folder(tmp_path / "spacings", tmp_path / "windows", p, pool.map)
    parts = {name: window.load(tmp_path / "windows", name) for name in window.SPLITS}
    assert {k: len(v) for k, v in parts.items()} == {"train": 85, "calibration": 5, "val": 10}
    joined = torch.cat([parts[name].spacing for name in window.SPLITS]).numpy().ravel()
    assert joined.tolist() == spacing[:10_000].tolist()
    assert (meta["spacings"], meta["dropped"]) == (10_007, 7)
    for name, part in parts.items():
        for w in range(len(part)):
            at = int(part.n[w]) - 1
            assert part.gamma[w] == gamma[at]
            assert part.spacing[w].tolist() == spacing[at : at + 100].tolist()
        x, said = part.spacing.numpy(), meta["splits"][name]
        assert said["mean"] == pytest.approx(x.mean(), rel=1e-14)
        assert said["std"] == pytest.approx(x.std(), rel=1e-13)
        assert said["sha256"] == hashlib.sha256(x.tobytes()).hexdigest()
        assert (said["first_rank"], said["height_from"]) == (part.n[0], part.gamma[0])
        assert said["height_to"] == part.gamma[-1]
    index = pq.read_table(tmp_path / "windows" / "index.parquet").to_pydict()
    assert index["window"] == list(range(100)) and index["n"] == list(range(1, 10_001, 100))
    assert index["split"] == ["train"] * 85 + ["calibration"] * 5 + ["val"] * 10
    assert index["gamma"] == gamma[:10_000:100].tolist()


@pytest.mark.parametrize("cuts", [[], [1000]])
def test_a_gap_in_the_ranks_is_refused(cuts, tmp_path, defaults):
    n, gamma, spacing = record(2000)
    n[1000:] += 24
    write_spacings(tmp_path / "spacings", (n, gamma, spacing), cuts)
    p = changed(defaults.window, length=10)
    with pytest.raises(ZetaError, match="zeros are missing after rank 1000"):
        window.window_folder(tmp_path / "spacings", tmp_path / "windows", p)
    assert [path.name for path in tmp_path.iterdir()] == ["spacings"], "nothing half-written"


def test_too_few_windows_are_refused(tmp_path, defaults):
    write_spacings(tmp_path / "spacings", record(2000), [])
    with pytest.raises(ZetaError, match="leave none for calibration"):
        window.window_folder(tmp_path / "spacings", tmp_path / "windows", defaults.window)


def test_spacings_that_are_not_whole_are_refused(tmp_path, defaults):
    write_spacings(tmp_path / "spacings", record(2000), [])
    (tmp_path / "spacings" / parquet_folders.INDEX).unlink()
    with pytest.raises(ZetaError, match="the data set is not whole"):
        window.window_folder(tmp_path / "spacings", tmp_path / "windows", defaults.window)


@pytest.fixture
def folder(tmp_path, defaults):
    write_spacings(tmp_path / "spacings", record(4000), [1500])
    p = changed(defaults.window, length=32)
    window.window_folder(tmp_path / "spacings", tmp_path / "windows", p)
    return tmp_path / "windows"


@pytest.mark.parametrize("mmap", [True, False])
def test_a_split_is_a_plain_file_of_torch(folder, mmap):
    found = torch.load(folder / "train.pt", weights_only=True, mmap=mmap)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        "spacing": (torch.float64, (107, 32)),
        "n": (torch.int64, (107,)),
        "gamma": (torch.float64, (107,)),
    }
    assert found["spacing"].numpy().ravel().tolist() == record(4000)[2][: 107 * 32].tolist()
    assert all(tensor.data_ptr() % 8 == 0 for tensor in found.values())


def test_saved_windows_load_back_and_carry_only_themselves(folder):
    parts = {name: window.load(folder, name) for name in window.SPLITS}
    joined = torch.cat([parts[name].spacing for name in window.SPLITS]).numpy().ravel()
    assert joined.tolist() == record(4000)[2][: 125 * 32].tolist()
    assert (folder / "val.pt").stat().st_size < len(parts["val"]) * 32 * 8 + 4000


def test_the_same_windows_are_saved_as_the_same_bytes(folder, tmp_path, defaults):
    p = changed(defaults.window, length=32)
    window.window_folder(tmp_path / "spacings", tmp_path / "again", p)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def resave(folder, change):
    tensors = torch.load(folder / "train.pt", weights_only=True)
    change(tensors)
    torch.save(tensors, folder / "train.pt")


def truncate(tensors):
    tensors["spacing"] = tensors["spacing"][:, :-1]


def to_float32(tensors):
    tensors["spacing"] = tensors["spacing"].float()


def alter(tensors):
    tensors["spacing"][3, 4] += 1e-9


def at(name, place, value):
    def change(tensors):
        if isinstance(value, slice):
            tensors[name] = tensors[name][value].clone()
        else:
            tensors[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, r"spacing is \(107, 31\) torch\.float64, meta\.json says \(107, 32\) float64"),
        (to_float32, r"torch\.float32"),
        (alter, r"not those meta\.json was written for"),
        (lambda tensors: tensors.pop("gamma"), "not a file of window tensors"),
        (at("n", 5, 7), r"window 5 is at rank 7, expected \d+"),
        (at("n", slice(None), slice(0, -1)), r"n is \(106,\) torch\.int64, expected \(107,\)"),
        (at("gamma", 5, float("nan")), "heights of windows do not ascend"),
        (at("gamma", 5, 1e9), "heights of windows do not ascend"),
    ],
)
def test_tensors_of_another_shape_or_content_are_refused(folder, change, message):
    resave(folder, change)
    with pytest.raises(ZetaError, match=rf"train\.pt: .*{message}.*dvc repro -f window"):
        window.load(folder, "train")


class Malicious:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_with_code_is_refused_and_never_run(folder, capsys):
    buffer = io.BytesIO()
    torch.save({"spacing": Malicious()}, buffer)
    (folder / "train.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ZetaError, match="not a file of window tensors"):
        window.load(folder, "train")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused(folder, content):
    (folder / "train.pt").write_bytes(content)
    with pytest.raises(ZetaError, match=r"train\.pt: not a file of window tensors"):
        window.load(folder, "train")


def test_missing_files_are_named(folder):
    (folder / "train.pt").unlink()
    with pytest.raises(ZetaError, match=r"train\.pt: not found"):
        window.load(folder, "train")
    (folder / "meta.json").unlink()
    with pytest.raises(ZetaError, match=r"meta\.json: cannot be read"):
        window.load(folder, "val")


def test_heights_are_told_to_three_digits():
    height = torch.tensor(
        [14.134725, 99.96, 1_131_944.5, 1_134_999.0, 1_135_001.0, 8.17298e7, 3.06e10]
    )
    expected = [14.1, 100.0, 1.13e6, 1.13e6, 1.14e6, 8.17e7, 3.06e10]
    found = window.rounded_height(height.double())
    assert found.dtype == torch.float64 and found.tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(window.rounded_height(found), found)
    assert window.rounded_height(torch.tensor([0.0])).item() == pytest.approx(14.1)


def test_height_of_a_cut_lies_between_those_of_the_windows_around_it():
    gamma = 1e3 + 20.0 * torch.arange(5, dtype=torch.float64)
    spacing = torch.full((5, 10), 1.0, dtype=torch.float64)
    windows = window.Windows(spacing, torch.arange(5) * 10 + 1, gamma)
    assert windows.heights().tolist() == window.rounded_height(gamma).tolist()
    starts = torch.tensor([0, 10, 40, 45])
    found = windows.heights(starts)
    # 5 mean spacings at height 1080 are 5 * 2 pi/log(1080/(2 pi)) = 6.1
    assert found.tolist() == [1000.0, 1020.0, 1080.0, 1090.0]
