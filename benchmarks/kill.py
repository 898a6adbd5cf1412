"""Kill -9 at a random moment, ten times over: are the resumed weights those of an unbroken run?

python benchmarks/kill.py [trials]    about a minute; prints a Markdown table
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from zetalib import params
from zetalib.data.window import Windows
from zetalib.network import model
from zetalib.training import engine

STEPS = 400
MODEL = {"layers": 2, "heads": 2, "width": 16, "lags": 4, "inversion": False}


def windows() -> Windows:
    """An anticorrelated sequence of mean one."""
    x = np.random.default_rng(0).standard_normal(60 * 32 + 1)
    spacing = torch.from_numpy((1 + 0.3 * (x[1:] - 0.8 * x[:-1])).reshape(60, 32))
    return Windows(spacing, torch.arange(60) * 32 + 1, torch.arange(60) * 10.0 + 1e6)


def work(folder: Path) -> None:
    """Train a small model with all that has a state: Muon, averaging, accumulation."""
    p = params.load()
    m = p.model.model_copy(update=MODEL)
    changes = {
        "steps": STEPS,
        "warmup": 4,
        "eval_every": 20,
        "checkpoint_every": 7,
        "threads": 1,
        "optimizer": "muon",
        "ema": 0.95,
        "accumulate": 2,
        "skip_lowest": 0.0,
    }
    t = p.train.model_copy(update=changes)

    def say(line: str) -> None:
        print(line, flush=True)

    result = engine.train(windows(), m, p.memory, p.losses, t, folder / "train.pt", say)
    model.save(result.model, folder / "model")


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--work", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model/weights.safetensors").read_bytes()).hexdigest()[:12]


def main(trials: int) -> None:
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "whole").mkdir()
        began = time.monotonic()
        process = start(root / "whole")
        assert process.stdout is not None
        process.stdout.readline()  # training has begun
        began = time.monotonic()
        process.communicate()
        duration, expected = time.monotonic() - began, digest(root / "whole")
        print(
            "| trial | killed after, s | resumed at step | weights | same |\n|---|---|---|---|---|"
        )
        failed = 0
        for trial in range(1, trials + 1):
            folder, killed = root / str(trial), False
            while not killed:  # on a busy machine a run may end before: it is no trial
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                process = start(folder)
                assert process.stdout is not None
                process.stdout.readline()
                pause = random.uniform(0.05, 0.9) * duration
                time.sleep(pause)
                process.send_signal(signal.SIGKILL)
                killed = process.wait() == -signal.SIGKILL
            said = start(folder).communicate()[0]
            resumed = re.search(r"resuming from \S+ at step (\d+)", said)
            step = resumed[1] if resumed else "0 (no checkpoint yet)"
            found = digest(folder)
            failed += found != expected
            same = "yes" if found == expected else "NO"
            print(f"| {trial} | {pause:.2f} | {step} of {STEPS} | {found} | {same} |", flush=True)
    print(f"\nunbroken: {expected}; {trials - failed} of {trials} the same")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 10)
