"""What must hold on a GPU as it does on a CPU. Skipped where there is none.

The other tests of training and models run on the GPU too where there is one (`train.device: auto`).
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import changed
from test_causality import HEIGHTS, LENGTH, POSITIONS, alterations, moved, network, spacings
from test_distributed import TORCHRUN, workspace
from test_distributed import run as launched
from test_engine import leave_torch_as_it_was, run, same, small, windows  # noqa: F401

from zetalib.forecasting.decoding import Decoder
from zetalib.forecasting.forecasts import next_spacing
from zetalib.network import memory
from zetalib.training import engine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

MEMORIES = [
    {"kind": "none"},
    {"kind": "prefix", "dropout": 0.3},
    {"kind": "prefix", "link": "gate", "ids": "permute_per_batch"},
    {"kind": "postfix", "link": "film", "dropout": 0.3},
    {"kind": "postfix", "link": "readout"},
]
OPTIONS = ["float32", "bfloat16"]
EACH = pytest.mark.parametrize(
    ("of_model", "of_memory"),
    list(itertools.product(POSITIONS, MEMORIES)),
    ids=lambda m: "-".join(map(str, m.values())),
)


@torch.no_grad()
def forecast(built, spacing, precision="float32", training=False):
    device = next(built.parameters()).device
    built.train(training)
    draw = None
    if training:
        draw = memory.training_draw(built.memory_config, torch.Generator().manual_seed(5))
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with half:
        found = built(spacing.to(device), HEIGHTS.to(device), intervene=draw)
    return tuple(f.cpu() for f in found)


@EACH
def test_forecasts_are_those_of_the_cpu_and_see_no_future(of_model, of_memory, defaults):
    engine.setup(defaults.train)
    built = network(defaults, of_model=of_model, of_memory=of_memory)
    original = spacings()
    here = forecast(built, original)
    built.cuda()
    for a, b in zip(here, forecast(built, original), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4)
    for precision, training in itertools.product(OPTIONS, (False, True)):
        before = forecast(built, original, precision, training)
        for t in (1, 10, LENGTH - 1):
            for altered in alterations(original, t):
                after = forecast(built, altered, precision, training)
                assert moved(before, after, t) is None


@EACH
def test_keys_that_are_kept_give_the_forecasts_of_the_cpu(of_model, of_memory, defaults):
    engine.setup(defaults.train)
    built = network(defaults, of_model=of_model, of_memory=of_memory)
    contexts, heights = spacings().double().numpy()[:, :12], HEIGHTS.numpy()
    here = next_spacing(built)(contexts, heights)
    kept = Decoder(built.cuda())
    kept.begin(contexts[:, :10], heights, 2)
    there = [kept.step(spacing) for spacing in contexts[:, 10:].T][-1]
    for a, b in zip((here.pi, here.mu, here.sigma), (there.pi, there.mu, there.sigma), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("precision", OPTIONS)
@EACH
def test_training_is_deterministic(of_model, of_memory, precision, tmp_path, defaults):
    m, mem, losses, t = small(defaults, steps=8, device="cuda", precision=precision)
    of_model = {**of_model, "primes": 4}
    sections = changed(m, **of_model), changed(mem, slots=3, **of_memory), losses, t
    one, other = (
        engine.train(windows(), *sections, tmp_path / name / "train.pt", print) for name in "ab"
    )
    assert same(one.model, other.model) and one.curve == other.curve


@pytest.mark.parametrize("precision", OPTIONS)
def test_compiled_training_comes_to_the_same_place(precision, tmp_path, defaults):
    how = {"device": "cuda", "steps": 60, "precision": precision}
    eager, _ = run(defaults, tmp_path, "eager", **how)
    compiled, log = run(defaults, tmp_path, "compiled", compile=True, **how)
    assert compiled.best_nll == pytest.approx(eager.best_nll, abs=0.02)
    assert not any("going on without" in line for line in log)


def test_a_process_of_torchrun_trains_with_nccl_as_one_alone(tmp_path):
    single = [n if n != "2" else "1" for n in TORCHRUN]
    one = workspace(tmp_path / "launched", device="cuda")
    done = launched(one, single)
    assert done.returncode == 0, done.stderr
    alone = workspace(tmp_path / "alone", device="cuda")
    done = launched(alone, [*single[:1], "-m", "pipeline.train"])
    assert done.returncode == 0, done.stderr
    curves = (pd.read_csv(folder / "plots/learning_curve.csv") for folder in (one, alone))
    pd.testing.assert_frame_equal(*curves)


def test_more_processes_than_gpus_are_refused(tmp_path):
    many = [n if n != "2" else str(torch.cuda.device_count() + 1) for n in TORCHRUN]
    done = launched(workspace(tmp_path / "run", device="cuda"), many)
    assert done.returncode != 0
    assert "Start one process a GPU" in done.stdout + done.stderr
