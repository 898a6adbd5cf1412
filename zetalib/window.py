"""Windows of spacings, split by height."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from zetalib import atomic
from zetalib.errors import ZetaError
from zetalib.params import Window
from zetalib.tables import parquet_files

SPLITS = ("train", "calibration", "val")
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


def split_sizes(windows: int, params: Window) -> dict[str, int]:
    """Windows in each split, by height: the top 10 % (say) is val, just below it calibration.

    Sizes are rounded down, so that 7816 windows give the published 7035 + 781 at 0.1, the 7035
    being train and calibration together.

    Raises
    ------
    ZetaError
        If a split would be empty.
    """
    val = int(windows * params.val_fraction)
    calibration = int(windows * params.calibration_fraction)
    sizes = {"train": windows - calibration - val, "calibration": calibration, "val": val}
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        problem = f"{windows} windows of {params.length} leave none for {', '.join(empty)}"
        remedy = "Take more zeros, shorter windows or larger fractions."
        raise ZetaError("params.yaml: window", problem, remedy)
    return sizes


def cut(
    n: NDArray[np.int64], gamma: NDArray[np.float64], spacing: NDArray[np.float64], params: Window
) -> dict[str, Windows]:
    """Non-overlapping windows in the order of height, never shuffled; the remainder is dropped.

    Parameters
    ----------
    n, gamma, spacing : arrays, shape (m,)
        Consecutive zeros (rank and height) and the spacing from each to the next.
    """
    jumps = np.flatnonzero(np.diff(n) != 1)
    if len(jumps):
        at = n[jumps[0]]
        raise ZetaError("data/spacings", f"zeros are missing after rank {at}", "Decode again.")
    count = len(spacing) // params.length
    sizes = split_sizes(count, params)
    shape = (count, params.length)
    used = count * params.length
    everything = Windows(
        torch.from_numpy(spacing[:used].reshape(shape).copy()),
        torch.from_numpy(n[: used : params.length].copy()),
        torch.from_numpy(gamma[: used : params.length].copy()),
    )
    parts, start = {}, 0
    for name in SPLITS:
        part = everything[start : start + sizes[name]]
        # Copies: a saved view would carry the storage of all splits with it.
        parts[name] = Windows(part.spacing.clone(), part.n.clone(), part.gamma.clone())
        start += sizes[name]
    return parts


def summary(meta: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the metadata, without its digests: what is worth comparing between runs."""
    splits = {
        name: {key: value for key, value in split.items() if key != "sha256"}
        for name, split in meta["splits"].items()
    }
    return {"dropped": meta["dropped"], **splits}


def window_folder(spacings: str | Path, out: str | Path, params: Window) -> dict[str, Any]:
    """Cut an unfolded data set into `out`: `<split>.pt`, `index.parquet`, `meta.json`.

    Returns the metadata: window length, spacings dropped at the end, and for each split the
    number of windows, first rank, heights, mean and std, and the SHA-256 of its spacings.
    """
    table = pa.concat_tables([pq.read_table(path) for path in parquet_files(spacings)])
    n, gamma, spacing = (table[name].to_numpy() for name in ("n", "gamma", "spacing"))
    parts = cut(n, gamma, spacing, params)
    meta: dict[str, Any] = {
        "length": params.length,
        "spacings": len(spacing),
        "dropped": len(spacing) % params.length,
        "splits": {name: _describe(windows) for name, windows in parts.items()},
    }
    joined = "".join(split["sha256"] for split in meta["splits"].values())
    meta["sha256"] = hashlib.sha256(joined.encode()).hexdigest()
    with atomic.replacing(out) as aside:
        aside.mkdir()
        for name, windows in parts.items():
            save_tensors(aside / f"{name}.pt", vars(windows))
        pq.write_table(_index(parts), aside / "index.parquet", compression="zstd")
        atomic.write_json(aside / "meta.json", meta)
    return meta


def _digest(spacing: torch.Tensor) -> str:
    return hashlib.sha256(spacing.contiguous().numpy().data).hexdigest()


def _describe(windows: Windows) -> dict[str, Any]:
    return {
        "windows": len(windows),
        "first_rank": int(windows.n[0]),
        "height_from": float(windows.gamma[0]),
        "height_to": float(windows.gamma[-1]),
        "mean": float(windows.spacing.mean()),
        "std": float(windows.spacing.std(correction=0)),
        "sha256": _digest(windows.spacing),
    }


def _index(parts: dict[str, Windows]) -> pa.Table:
    split = [name for name, windows in parts.items() for _ in range(len(windows))]
    n = torch.cat([windows.n for windows in parts.values()]).numpy()
    gamma = torch.cat([windows.gamma for windows in parts.values()]).numpy()
    return pa.table({"window": np.arange(len(n)), "split": split, "n": n, "gamma": gamma})


def save_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """`torch.save` whose bytes depend on the content alone (its archive holds no file name)."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(folder: str | Path, split: str) -> Windows:
    """Load a split, checked against `meta.json`: shape, type and content.

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
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        windows = Windows(**tensors)
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
    return windows
