"""The pool of threads: order, bounds and faults. The same over a cluster: test_dask.py."""

import os
import pickle
import threading
import time
from functools import partial

import pytest

from zetalib import compute
from zetalib.errors import ZetaError
from zetalib.params import Compute


def threads(workers):
    return compute.pool(Compute(scheduler="threads", workers=workers))


def test_results_come_in_order_whoever_ends_first():
    second_ran = threading.Event()

    def call(k):
        if k == 0:
            assert second_ran.wait(10)
        if k == 1:
            second_ran.set()
        return k * k

    with threads(2) as pool:
        assert list(pool.map(call, ((k,) for k in range(20)))) == [k * k for k in range(20)]


def test_no_more_is_drawn_than_is_under_way():
    drawn, running, most = [], set(), []

    def calls():
        for k in range(100):
            drawn.append(k)
            yield (k,)

    def call(k):
        running.add(k)
        most.append(len(running))
        time.sleep(0.001)
        running.discard(k)
        return k

    with threads(3) as pool:
        for taken, _ in enumerate(pool.map(call, calls()), 1):
            assert len(drawn) - taken <= 2 * 3
    assert drawn == list(range(100)) and max(most) <= 3


@pytest.mark.parametrize("place", ["call", "iterable"])
def test_a_fault_is_raised_and_nothing_new_is_begun(place):
    begun, done = [], []

    def calls():
        for k in range(1000):
            if place == "iterable" and k == 10:
                raise ZetaError("file", "bad", "Mend it.")
            yield (k,)

    def call(k):
        begun.append(k)
        if place == "call" and k == 10:
            raise ZetaError("file", "bad", "Mend it.", offset=7)
        return k

    with pytest.raises(ZetaError, match=r"file.*: bad\. Mend it"), threads(2) as pool:
        for k in pool.map(call, calls()):
            done.append(k)
    assert done == list(range(len(done))) and len(done) <= 10
    assert max(begun) <= 10 + 2 * 2


def test_the_pool_has_a_thread_a_core_unless_told(monkeypatch):
    monkeypatch.setattr(compute.os, "cpu_count", lambda: 5)
    with threads(None) as pool:
        assert pool.workers == 5
    with threads(2) as pool:
        assert pool.workers == 2


def test_an_error_survives_the_way_between_processes():
    error = ZetaError("raw/zeros_14.dat", "truncated", "Fetch it again.", offset=40)
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is ZetaError and vars(found) == vars(error)
    assert str(found) == "raw/zeros_14.dat at byte 40: truncated. Fetch it again."


def test_forked_calls_return_in_their_order_and_change_nothing_here():
    kept = []

    def call(k):
        time.sleep(0.1 * (3 - k))
        kept.append(k)
        return k, os.getpid()

    found = compute.map_forks([partial(call, k) for k in range(4)])
    assert [k for k, _ in found] == [0, 1, 2, 3] and kept == []
    assert os.getpid() not in {process for _, process in found}


def test_a_forked_calls_exception_is_raised_here_and_the_others_end():
    def fails():
        raise ZetaError("data/model", "it is not there", "Run it.")

    with pytest.raises(ZetaError, match="it is not there"):
        compute.map_forks([fails, lambda: time.sleep(60)])


def test_a_forked_process_that_dies_is_told():
    with pytest.raises(ChildProcessError, match="ended with -9"):
        compute.map_forks([lambda: os.kill(os.getpid(), 9), lambda: 1])


def test_one_core_calls_one_after_another(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert compute.map_forks([os.getpid, os.getpid]) == [os.getpid()] * 2
