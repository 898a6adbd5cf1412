import io

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib import window
from zetalib.errors import ZetaError


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


def test_windows_are_consecutive_and_ordered_by_height(defaults):
    n, gamma, spacing = record(10_007)
    p = changed(defaults.window, length=100)
    parts = window.cut(n, gamma, spacing, p)
    assert {k: len(v) for k, v in parts.items()} == {"train": 85, "calibration": 5, "val": 10}
    joined = torch.cat([parts[name].spacing for name in window.SPLITS]).numpy().ravel()
    assert joined.tolist() == spacing[:10_000].tolist()
    for part in parts.values():
        for w in range(len(part)):
            at = int(part.n[w]) - 1
            assert part.gamma[w] == gamma[at]
            assert part.spacing[w].tolist() == spacing[at : at + 100].tolist()


def test_a_gap_in_the_ranks_is_refused(defaults):
    n, gamma, spacing = record(2000)
    n[1000:] += 24
    with pytest.raises(ZetaError, match="zeros are missing after rank 1000"):
        window.cut(n, gamma, spacing, changed(defaults.window, length=10))


def test_too_few_windows_are_refused(defaults):
    with pytest.raises(ZetaError, match="leave none for calibration"):
        window.cut(*record(2000), defaults.window)


@pytest.fixture
def folder(tmp_path, defaults):
    import pyarrow as pa

    from zetalib.tables import write_table

    n, gamma, spacing = record(4000)
    (tmp_path / "spacings").mkdir()
    table = pa.table({"n": n, "gamma": gamma, "spacing": spacing})
    write_table(table.slice(0, 1500), tmp_path / "spacings" / "zeros_14.parquet")
    write_table(table.slice(1500), tmp_path / "spacings" / "zeros_1500.parquet")
    p = changed(defaults.window, length=32)
    window.window_folder(tmp_path / "spacings", tmp_path / "windows", p)
    return tmp_path / "windows"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, r"spacing is \(107, 31\) torch\.float64, meta\.json says \(107, 32\) float64"),
        (to_float32, r"torch\.float32"),
        (alter, r"not those meta\.json was written for"),
        (lambda tensors: tensors.pop("gamma"), "not a file of window tensors"),
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
