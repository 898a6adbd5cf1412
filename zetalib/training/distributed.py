"""Data-parallel training by torchrun: every process a share of the global batch.

Each process holds the whole model, works on its slice of the same batch, and takes the mean of
the gradients over all: the step is that of one process with the whole batch, up to rounding.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from zetalib.errors import ZetaError

_AGAIN = "Run the same command again: training resumes from its last checkpoint."


@dataclass(frozen=True)
class Group:
    """The processes that train together; by default there is one.

    Attributes
    ----------
    rank : int
        Number of this process; 0 alone logs, evaluates and writes.
    world : int
        How many there are.
    """

    rank: int = 0
    world: int = 1

    def slice(self, batch: Tensor) -> Tensor:
        """The share of this process in a global batch, whose size `world` divides."""
        return batch.chunk(self.world)[self.rank]

    def average_(self, tensors: list[Tensor]) -> None:
        """Replace tensors of one type by their mean over the processes, in one message."""
        if self.world == 1:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for t, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            t.copy_(mean.view_as(t))

    def from_first(self, value: float, device: torch.device) -> float:
        """The value of rank 0, in every process."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(shared, 0)
        return float(shared)

    def bytes_from_first(self, content: bytes, device: torch.device) -> bytes:
        """The bytes of rank 0, in every process."""
        if self.world == 1:
            return content
        size = int(self.from_first(len(content), device))
        shared = torch.zeros(size, dtype=torch.uint8, device=device)
        if self.rank == 0 and size:
            shared.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(shared, 0)
        return shared.cpu().numpy().tobytes()


ALONE = Group()


def launched() -> bool:
    """Whether torchrun (or :func:`launch`) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def join(device: torch.device) -> Iterator[Group]:
    """Join the processes torchrun started; alone if it did not.

    Raises
    ------
    ZetaError
        If there are more processes than GPUs; if another process dies, naming its rank.
    """
    if not launched():
        yield ALONE
        return
    rank, world, local = (int(os.environ[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            problem = f"process {local} of this machine has no GPU: {torch.cuda.device_count()}"
            raise ZetaError("torchrun", problem + " there", "Start one process a GPU.")
        torch.cuda.set_device(local)
    before = signal.signal(signal.SIGTERM, _ended)  # how torchrun ends the others when one dies
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    peers = _peers(world, device)
    try:
        yield Group(rank, world)
        signal.signal(signal.SIGTERM, before)
    except (RuntimeError, _Ended):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending, and has something to say
        dead = _dead(peers)
        if not dead:
            raise
        alive = [r for r in range(world) if r not in dead]
        if rank != alive[0]:  # one of them says it
            raise SystemExit(1) from None
        ranks = ", ".join(f"rank {r}" for r in dead)
        raise ZetaError("train", f"{ranks} of {world} died (or was killed)", _AGAIN) from None
    finally:
        dist.destroy_process_group()


class _Ended(BaseException):
    """SIGTERM."""


def _ended(*_: object) -> NoReturn:
    raise _Ended


def _peers(world: int, device: torch.device) -> list[tuple[int, int]]:
    """Machine and process id of every rank."""
    mine = torch.tensor([_machine(), os.getpid()], device=device)
    found = [torch.zeros_like(mine) for _ in range(world)]
    dist.all_gather(found, mine)
    return [(int(host), int(pid)) for host, pid in found]


def _machine() -> int:
    return zlib.crc32(socket.gethostname().encode())


def _dead(peers: list[tuple[int, int]]) -> list[int]:
    """Ranks of this machine whose process has ended; it is given a second to be seen so."""
    for _ in range(20):
        ended = [r for r, (host, pid) in enumerate(peers) if host == _machine() and _gone(pid)]
        if ended:
            return ended
        time.sleep(0.05)
    return []


def _gone(pid: int) -> bool:
    """Whether a process of this machine has ended; a zombie has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def launch(module: str, processes: int) -> None:
    """Run `python -m module` in so many processes of this machine, as torchrun would.

    Raises
    ------
    ZetaError
        If one of them is killed, naming its rank.
    SystemExit
        If one of them ends with an error, which it has said itself.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config: Any = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="zetalib",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-u", "-m", module)
    except ChildFailedError as error:
        if any(failure.exitcode > 0 for failure in error.failures.values()):
            raise SystemExit(1) from None
        # The others were only told to end (SIGTERM), because one had.
        rank, failure = min(error.failures.items(), key=lambda f: f[1].signal_name() == "SIGTERM")
        problem = f"rank {rank} of {processes} was killed ({failure.signal_name()})"
        raise ZetaError("train", problem, _AGAIN) from None
