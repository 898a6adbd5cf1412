"""Windows of spacings, split by height."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from zetalib import atomic, shares
from zetalib.data import parquet_folders
from zetalib.data.parquet_folders import Map, Part
from zetalib.errors import ZetaError
from zetalib.params import Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLITS = ("train", "calibration", "val")
INDEX = pa.schema(
    [("window", pa.int64()), ("split", pa.string()), ("n", pa.int64()), ("gamma", pa.float64())]
)
FIRST_ZERO = 14.134725141734693  # no window starts lower
_AGAIN = "Run `dvc repro -f window`."


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of one split.

    Attributes
    ----------
    spacing : float64 tensor, shape (windows, length), in mean spacings
    n : int64 tensor, shape (windows,)
        Rank of the zero before the first spacing: spacing j of window w lies between the zeros of
        rank n[w] + j and n[w] + j + 1.
    gamma : float64 tensor, shape (windows,)
        Height of that zero.
    """

    spacing: torch.Tensor
    n: torch.Tensor
    gamma: torch.Tensor

    def __len__(self) -> int:
        return len(self.spacing)

    def __getitem__(self, part: slice) -> Windows:
        return Windows(self.spacing[part], self.n[part], self.gamma[part])

    def heights(self, starts: torch.Tensor | None = None) -> torch.Tensor:
        """Rounded heights, float64, of the windows or of cuts of the record they form.

        Parameters
        ----------
        starts : int64 tensor
            Spacings of the record before each cut; its height is that of the last window's start
            and as many mean spacings as lie between.
        """
        if starts is None:
            return rounded_height(self.gamma)
        number, offset = starts // self.spacing.shape[1], starts % self.spacing.shape[1]
        gamma = self.gamma[number]
        return rounded_height(gamma + offset / density(gamma))


class Record(NamedTuple):
    """Consecutive zeros: heights `gamma` and the spacings after them, each of shape (m,)."""

    gamma: Floats
    spacing: Floats


def targets(windows: Windows) -> Floats:
    """What is forecast, window after window: shape (W (T - 1),)."""
    return np.asarray(windows.spacing[:, 1:].numpy().ravel())


def density(height: torch.Tensor) -> torch.Tensor:
    """Zeros a unit of height at `height`: log(T/2 pi)/(2 pi), T at least that of the first zero."""
    return torch.log(height.clamp(min=FIRST_ZERO) / (2 * torch.pi)) / (2 * torch.pi)


def running_sum(x: torch.Tensor) -> torch.Tensor:
    """Cumulative sum along dimension 1, by doubling.

    Deterministic on every device (`torch.cumsum` is not on CUDA), and entry j has nothing of later
    ones in it, not even times zero.
    """
    step = 1
    while step < x.shape[1]:
        x = x + F.pad(x[:, :-step], (step, 0))
        step *= 2
    return x


def height_offsets(spacing: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """tau: how far above the window's first zero each spacing ends.

    Parameters
    ----------
    spacing : shape (B, T), in mean spacings
    height : shape (B,)
        Rounded height of the window's first zero.

    Returns
    -------
    float64 tensor, shape (B, T), in units of height
        Entry j depends on spacings 0 ... j only.
    """
    return running_sum(spacing.double()) / density(height.double())[:, None]


def rounded_height(height: torch.Tensor) -> torch.Tensor:
    """Heights to three significant digits: all that a forecaster is told of where a window lies.

    Parameters
    ----------
    height : float64 tensor, any shape
        Of the zero before the window's first spacing.
    """
    height = height.double().clamp(min=FIRST_ZERO)
    unit = 10.0 ** (torch.floor(torch.log10(height)) - 2)
    return torch.round(height / unit) * unit


def split_sizes(windows: int, params: Window) -> dict[str, int]:
    """Windows in each split, by height: the top 10 % (say) is val, just below it calibration.

    Sizes are rounded down, so that 7816 windows give the published 7035 + 781 at 0.1, the 7035
    being train and calibration together.

    Raises
    ------
    ZetaError
        If a split would be empty.
    """
    val = shares.part(windows, params.val_fraction)
    calibration = shares.part(windows, params.calibration_fraction)
    sizes = {"train": windows - calibration - val, "calibration": calibration, "val": val}
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        problem = f"{windows} windows of {params.length} leave none for {', '.join(empty)}"
        remedy = "Take more zeros, shorter windows or larger fractions."
        raise ZetaError("params.yaml: window", problem, remedy)
    return sizes


def summary(meta: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the metadata, without its digests: what is worth comparing between runs."""
    splits = {
        name: {key: value for key, value in split.items() if key != "sha256"}
        for name, split in meta["splits"].items()
    }
    return {"dropped": meta["dropped"], **splits}


def window_folder(
    spacings: str | Path, out: str | Path, params: Window, run: Map = starmap
) -> dict[str, Any]:
    """Cut an unfolded data set into `out`: `<split>.pt`, `index.parquet`, `meta.json`.

    Windows do not overlap and are in the order of height, never shuffled; the remainder is dropped.
    Memory is that of the row groups `run` has under way: the splits are written as they come.
    Returns the metadata: window length, spacings dropped at the end, and for each split the
    number of windows, first rank, heights, mean and std, and the SHA-256 of its spacings.

    Raises
    ------
    ZetaError
        As :func:`zetalib.data.parquet_folders.parts` and :func:`split_sizes`; if ranks are not
        consecutive.
    """
    parts = parquet_folders.parts(Path(spacings).absolute())  # a worker may be elsewhere
    total = sum(part.rows for part in parts)
    sizes = split_sizes(total // params.length, params)
    meta: dict[str, Any] = {
        "length": params.length,
        "spacings": total,
        "dropped": total % params.length,
    }
    with atomic.replacing(out) as aside:
        aside.mkdir()
        with ExitStack() as stack:
            splits = [
                stack.enter_context(_SplitWriter(aside / f"{name}.pt", sizes[name], params.length))
                for name in SPLITS
            ]
            rank = None
            for first, last, *piece in run(read_piece, _pieces(parts, params.length)):
                if rank is not None and first != rank + 1:
                    raise _missing(rank)
                rank = last
                for split in splits:
                    piece = split.take(*piece)
        meta["splits"] = {s: w.describe() for s, w in zip(SPLITS, splits, strict=True)}
        joined = "".join(split["sha256"] for split in meta["splits"].values())
        meta["sha256"] = hashlib.sha256(joined.encode()).hexdigest()
        _write_index(aside)
        atomic.write_json(aside / "meta.json", meta)
    return meta


def _missing(rank: int) -> ZetaError:
    return ZetaError("data/spacings", f"zeros are missing after rank {rank}", "Decode again.")


def _pieces(parts: list[Part], length: int) -> Iterator[tuple[Path, int, int, int]]:
    """Each row group of the data set and the number of its first spacing in a window."""
    start = 0
    for part in parts:
        for group, rows in enumerate(parquet_folders.groups(part.path)):
            yield part.path, group, start % length, length
            start += rows


def read_piece(
    path: Path, group: int, phase: int, length: int
) -> tuple[int, int, Floats, Ints, Floats]:
    """A row group: its first and last rank, its spacings, rank and height where windows start.

    `phase` is the place of its first spacing in a window of `length`.
    """
    table = parquet_folders.read_group(path, group, ["n", "gamma", "spacing"])
    n, gamma, spacing = (table[name].to_numpy() for name in ("n", "gamma", "spacing"))
    jumps = np.flatnonzero(np.diff(n) != 1)
    if len(jumps):
        raise _missing(int(n[jumps[0]]))
    start = -phase % length
    return int(n[0]), int(n[-1]), spacing, n[start::length].copy(), gamma[start::length].copy()


class _SplitWriter:
    """Writes the tensors of a split into a file of `torch.save` as they come, holding none.

    torch lays out the file with room for the data (`skip_data`), which is then filled in.
    """

    def __init__(self, path: Path, windows: int, length: int) -> None:
        room = path.with_suffix(".room")  # an empty mapped file: a tensor that takes no memory
        spacing = torch.from_file(
            str(room), shared=True, size=windows * length, dtype=torch.float64
        )
        tensors = {
            "spacing": spacing.reshape(windows, length),
            "n": torch.empty(windows, dtype=torch.int64),  # never touched
            "gamma": torch.empty(windows, dtype=torch.float64),
        }
        with torch.serialization.skip_data():
            torch.save(tensors, path)
        room.unlink()
        reader: Any = torch._C.PyTorchFileReader(str(path))
        self._at = {name: reader.get_record_offset(f"data/{k}") for k, name in enumerate(tensors)}
        self._path, self._handle = path, path.open("r+b")
        self._windows, self._spacings = windows, windows * length  # still to come
        self._sha256, self._count = hashlib.sha256(), windows * length
        self._sum = self._squares = 0.0  # about 1, so that nothing cancels

    def __enter__(self) -> _SplitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()

    def take(self, spacing: Floats, n: Ints, gamma: Floats) -> tuple[Floats, Ints, Floats]:
        """Write what the split has room for; the rest."""
        mine, starts = min(len(spacing), self._spacings), min(len(n), self._windows)
        self._put("spacing", spacing[:mine])
        self._put("n", n[:starts])
        self._put("gamma", gamma[:starts])
        self._spacings -= mine
        self._windows -= starts
        self._sha256.update(spacing[:mine].data)
        d = spacing[:mine] - 1
        self._sum += float(d.sum())
        self._squares += float((d * d).sum())
        return spacing[mine:], n[starts:], gamma[starts:]

    def _put(self, name: str, array: Floats | Ints) -> None:
        self._handle.seek(self._at[name])
        self._handle.write(array.data)
        self._at[name] += array.nbytes

    def describe(self) -> dict[str, Any]:
        """The split's entry in the metadata, once it is written and closed."""
        windows = Windows(**_tensors(self._path))
        mean = self._sum / self._count
        return {
            "windows": len(windows),
            "first_rank": int(windows.n[0]),
            "height_from": float(windows.gamma[0]),
            "height_to": float(windows.gamma[-1]),
            "mean": 1 + mean,
            "std": float(np.sqrt(self._squares / self._count - mean * mean)),
            "sha256": self._sha256.hexdigest(),
        }


def _tensors(path: Path) -> dict[str, Any]:
    """The tensors of a split, mapped: only what is touched is read."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return found


def _write_index(folder: Path) -> None:
    """One row a window: its number, split, rank and height."""
    window = 0
    with pq.ParquetWriter(folder / "index.parquet", INDEX, compression="zstd") as writer:
        for name in SPLITS:
            windows = Windows(**_tensors(folder / f"{name}.pt"))
            for start in range(0, len(windows), parquet_folders.ROWS):
                part = windows[start : start + parquet_folders.ROWS]
                number = np.arange(window, window + len(part))
                split = pa.repeat(name, len(part))
                columns = [number, split, part.n.numpy(), part.gamma.numpy()]
                writer.write_table(pa.table(columns, schema=INDEX))
                window += len(part)


def _digest(spacing: torch.Tensor) -> str:
    found = hashlib.sha256()
    for start in range(0, len(spacing), 4096):  # the tensor may be mapped, larger than memory
        found.update(spacing[start : start + 4096].contiguous().numpy().data)
    return found.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """`torch.save` whose bytes depend on the content alone (its archive holds no file name)."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(folder: str | Path, split: str) -> Windows:
    """Map a split into memory, checked against `meta.json`: shape, type and content.

    Raises
    ------
    ZetaError
        If a file is missing, damaged, holds anything but tensors, or is of another shape.
    """
    folder = Path(folder)
    path = folder / f"{split}.pt"
    try:
        meta = json.loads((folder / "meta.json").read_text())
        described = meta["splits"][split]
        shape = (described["windows"], meta["length"])
        digest = described["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise ZetaError(folder / "meta.json", problem, _AGAIN) from None
    try:
        windows = Windows(**_tensors(path))
    except FileNotFoundError:
        raise ZetaError(path, "not found", _AGAIN) from None
    except (pickle.UnpicklingError, RuntimeError, TypeError, ValueError, EOFError):
        raise ZetaError(path, "not a file of window tensors", _AGAIN) from None
    found = tuple(windows.spacing.shape)
    if found != shape or windows.spacing.dtype != torch.float64:
        problem = f"spacing is {found} {windows.spacing.dtype}, meta.json says {shape} float64"
        raise ZetaError(path, problem, _AGAIN)
    if _digest(windows.spacing) != digest:
        raise ZetaError(path, "its spacings are not those meta.json was written for", _AGAIN)
    if problem := _misplaced(windows):
        raise ZetaError(path, problem, _AGAIN)
    return windows


def record(windows: Windows, zeros: int, folder: str | Path = "data/spacings") -> Record:
    """Heights and spacings of the last `zeros` of a split, from the files of stage unfold."""
    end = int(windows.n[0]) + windows.spacing.numel()
    first = max(int(windows.n[0]), end - zeros)
    found = pq.read_table(
        [part.path for part in parquet_folders.parts(folder)],
        columns=["gamma", "spacing"],
        filters=[("n", ">=", first), ("n", "<", end)],
    )
    return Record(found["gamma"].to_numpy(), found["spacing"].to_numpy())


def _misplaced(windows: Windows) -> str:
    """What is wrong with ranks and heights of consecutive windows; nothing if all is well."""
    n, gamma, (count, length) = windows.n, windows.gamma, windows.spacing.shape
    for name, part, kind in (("n", n, torch.int64), ("gamma", gamma, torch.float64)):
        if part.shape != (count,) or part.dtype != kind:
            expected = f"expected ({count},) {kind}"
            return f"{name} is {tuple(part.shape)} {part.dtype}, {expected}"
    if (n.diff() != length).any():
        k = int((n.diff() != length).int().argmax()) + 1
        return f"window {k} is at rank {n[k]}, expected {n[k - 1] + length}"
    if not (torch.isfinite(gamma).all() and (gamma.diff() >= 0).all()):
        return "heights of windows do not ascend"
    return ""
