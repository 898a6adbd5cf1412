"""What a training step sees: windows cut from one contiguous record, and their heights."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from zetalib import params, shares
from zetalib.data.window import Windows
from zetalib.errors import ZetaError


def split_dev(windows: Windows, p: params.Train) -> tuple[Windows, Windows]:
    """Windows to fit and dev windows: dev is the top of the training range, never the val tail."""
    dev = max(1, shares.part(len(windows), p.dev_fraction))
    skipped = shares.part(len(windows), p.skip_lowest)
    if skipped + dev >= len(windows):
        problem = f"of {len(windows)} training windows {skipped} are skipped and {dev} are dev"
        raise ZetaError("params.yaml: train", problem + ": none is left", "Take more zeros.")
    return windows[skipped : len(windows) - dev], windows[len(windows) - dev :]


def starts(step: int, windows: int, length: int, p: params.Train) -> Tensor:
    """Where the windows of a step start in the contiguous record of `windows` * `length` spacings.

    An epoch visits non-overlapping windows once each in random order; with `p.shift` they are cut
    anew each epoch, at a random offset (which costs one window). A pure function of its arguments:
    that makes resumption exact.
    """
    shift = p.shift and windows > 1
    per_epoch = windows - 1 if shift else windows
    position, missing = step * p.batch, p.batch
    found = []
    while missing > 0:
        epoch, first = divmod(position, per_epoch)
        offset, order = _epoch(p.seed * 1_000_003 + epoch, per_epoch, length if shift else 1)
        part = order[first : first + missing]
        found.append(offset + length * part)
        position, missing = position + len(part), missing - len(part)
    return torch.cat(found)


@lru_cache(maxsize=2)  # a permutation of millions of windows is not drawn anew at each step
def _epoch(seed: int, windows: int, offsets: int) -> tuple[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    offset = int(torch.randint(offsets, (), generator=generator)) if offsets > 1 else 0
    return offset, torch.randperm(windows, generator=generator)


class Batches:
    """The record of `windows`, to be cut at any place.

    Parameters
    ----------
    windows : Windows
        Consecutive, so that together they are one record.
    p : zetalib.params.Train
        `data` decides where the record is kept: on the device as `takes`, or mapped from its file,
        only what a step needs being read. Batches are the same to the bit.
    device : torch.device
        Where batches go.
    takes : torch.dtype
        Type of the spacings given out (:attr:`zetalib.network.model.SpacingMDN.takes`).
    """

    def __init__(
        self, windows: Windows, p: params.Train, device: torch.device, takes: torch.dtype
    ) -> None:
        self.device, self._windows, self._takes = device, windows, takes
        self.mode = _mode(p, takes.itemsize * windows.spacing.numel(), device)
        record = windows.spacing
        if self.mode == "device":
            record = record.to(device, takes)
        self._cuts = record.flatten().unfold(0, windows.spacing.shape[1], 1)

    def __call__(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Spacings (B, T) and rounded heights (B,) of the windows from `starts` on."""
        spacing = self._cuts[starts.to(self._cuts.device)].to(self.device, self._takes)
        return spacing, self._windows.heights(starts).to(self.device)


def _mode(p: params.Train, size: int, device: torch.device) -> str:
    """`auto` keeps the record on the device where it takes at most half of the free memory."""
    if p.data != "auto":
        return p.data
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return "device" if size <= free // 2 else "mmap"
