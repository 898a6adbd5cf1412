"""A real Dask scheduler and worker processes on loopback; one worker is killed at its work."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, changed, synthetic_blocks, write_folder

from zetalib import compute
from zetalib.data import decode, parquet_folders, unfold, verify, window
from zetalib.errors import ZetaError
from zetalib.params import Compute
from zetalib.sources import download

BOUNDS = (14.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
ROWS = 30  # of a row group: each file has two of them

# What a worker is started with: small row groups, and whoever decodes the second half of
# zeros_400.dat says who it is and waits until it may go on.
GATE = f"""
import os, pathlib, time
from zetalib.archive import codec
from zetalib.data import parquet_folders
parquet_folders.ROWS = {ROWS}
here = pathlib.Path("FOLDER")
def gated(path, headers, *rest):
    if path.name == "zeros_400.dat" and headers[0].t0 == 500 and not (here / "open").exists():
        (here / "pid.aside").write_text(str(os.getpid()))
        (here / "pid.aside").rename(here / "pid")
        while not (here / "open").exists():
            time.sleep(0.02)
    return codec.ungated(path, headers, *rest)
if not hasattr(codec, "ungated"):  # Dask runs this file twice
    codec.ungated, codec.decode_run = codec.decode_run, gated
"""


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)
    return path.read_text()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Address of a scheduler with two workers, and the folder of the gate."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "gate.py").write_text(GATE.replace("FOLDER", str(folder)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = (folder / "log").open("w")
    running = []

    def start(*command):
        command = [sys.executable, "-m", "dask", *command]
        done = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        running.append(done)

    listen = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    start("scheduler", *listen, "--scheduler-file", "scheduler.json")
    try:
        address = json.loads(wait_for(folder / "scheduler.json"))["address"]
        for _ in range(2):
            one = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            start("worker", address, *one, "--preload", "gate.py")
        yield address, folder
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
        log.close()


@pytest.fixture
def raw(tmp_path):
    blocks = synthetic_blocks(3, BOUNDS)
    return write_folder(tmp_path / "raw", {BOUNDS[k]: blocks[k : k + 2] for k in range(0, 8, 2)})


def data(raw, out, params, run):
    """decode, unfold and window: the bytes of every file they leave, and the statistics."""
    decode.decode_folder(raw, out / "zeros", run=run)
    statistics = unfold.unfold_folder(out / "zeros", out / "spacings", run=run).statistics()
    window.window_folder(out / "spacings", out / "windows", params, run)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files}, statistics


def test_a_worker_killed_at_its_work_changes_no_byte(
    cluster, raw, tmp_path, defaults, capsys, monkeypatch
):
    monkeypatch.setattr(parquet_folders, "ROWS", ROWS)
    address, folder = cluster
    params = changed(defaults.window, length=8, calibration_fraction=0.06)
    with compute.pool(Compute(scheduler="threads", workers=2)) as pool:
        local = data(raw, tmp_path / "local", params, pool.map)
    assert local[1]["count"] == 159
    out = tmp_path / "cluster"
    with compute.pool(Compute(scheduler=address, workers=None)) as pool:

        def kill_one(function, calls):
            found = pool.map(function, calls)
            if function is decode.decode:
                yield next(found)
                pid = int(wait_for(folder / "pid"))
                assert list((out / "zeros").glob(".zeros_400.parquet.*.partial")), "half-written"
                os.kill(pid, signal.SIGKILL)
                (folder / "open").touch()
            yield from found

        assert data(raw, out, params, kill_one) == local
    assert "is gone; what it was at is done again" in capsys.readouterr().out
    assert (folder / "pid").exists() and len(local[0]) == 2 * (4 + 1) + 5


def test_an_error_on_a_worker_is_the_same_one_line(cluster, raw, tmp_path):
    address, folder = cluster
    (folder / "open").touch()
    path = raw / "zeros_200.dat"
    content = bytearray(path.read_bytes())
    content[40 + 13 : 40 + 26] = bytes(13)
    path.write_bytes(content)
    said = []
    for scheduler in ("threads", address):
        match, asked = "rank 42 is zero: two equal zeros", Compute(scheduler=scheduler, workers=2)
        with pytest.raises(ZetaError, match=match) as error, compute.pool(asked) as pool:
            decode.decode_folder(raw, tmp_path / "zeros", run=pool.map)
        said.append(str(error.value))
    assert said[0] == said[1]
    with pytest.raises(ZetaError, match="the data set is not whole"):
        parquet_folders.parts(tmp_path / "zeros")


def test_verify_sees_the_same_on_a_cluster(cluster, tmp_path, defaults):
    address, folder = cluster
    (folder / "open").touch()
    source = changed(defaults.download, source="siegel", to_height=9200.0)
    download.fetch(source, tmp_path / "raw")
    decode.decode_folder(tmp_path / "raw", tmp_path / "zeros")
    unfold.unfold_folder(tmp_path / "zeros", tmp_path / "spacings")
    seen = []
    for scheduler in ("threads", address):
        with compute.pool(Compute(scheduler=scheduler, workers=2)) as pool:
            metrics, plots = verify.verify_folders(
                tmp_path / "zeros",
                tmp_path / "spacings",
                defaults.verify,
                zeta=True,
                val_fraction=0.1,
                run=pool.map,
            )
        seen.append((metrics, {name: table.to_csv() for name, table in plots.items()}))
    assert seen[0] == seen[1] and seen[0][0]["recomputed"]["zeros"] == 9209


def test_a_scheduler_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(compute, "_SECONDS", 1)
    asked = Compute(scheduler="tcp://127.0.0.1:1", workers=None)
    match = r"params\.yaml: compute\.scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:1"
    with pytest.raises(ZetaError, match=match), compute.pool(asked):
        pass
