"""Who works: the threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from threadpoolctl import threadpool_limits

from zetalib import progress
from zetalib.errors import ZetaError
from zetalib.params import Compute

_WHERE = "params.yaml: compute.scheduler"
_SECONDS = 10  # a scheduler that has not answered by then is not there


class Pool:
    """Runs functions elsewhere; results come in the order of the calls, whoever ends first.

    `submit` begins a call and returns its future, of `concurrent.futures` or of Dask.
    """

    def __init__(self, submit: Callable[..., Any], workers: int) -> None:
        self.workers = workers
        self._submit = submit

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """`itertools.starmap`, in parallel: twice as many calls as workers are under way at most.

        The iterable is drawn from as results are taken, so that memory is bounded however long it
        is. An exception of a call is raised in its turn, and nothing new is begun. A worker that
        dies has its calls done again by another: a call must be repeatable.
        """
        waiting: deque[Any] = deque()
        try:
            for arguments in calls:
                waiting.append(self._submit(function, *arguments))
                if len(waiting) >= 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def pool(compute: Compute) -> Iterator[Pool]:
    """The pool that `params.yaml: compute` asks for.

    Raises
    ------
    ZetaError
        If no scheduler answers at the address, it has no workers, or it is lost on the way.
    """
    if compute.scheduler == "threads":
        workers = compute.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as executor:
            yield Pool(executor.submit, workers)
    else:
        with _cluster(compute.scheduler, compute.workers) as found:
            yield found


@contextmanager
def _cluster(address: str, workers: int | None) -> Iterator[Pool]:
    import distributed  # slow to import, and only needed here

    try:
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError):
        problem = f"no Dask scheduler answers at {address}"
        remedy = "Start one there (`dask scheduler`), or set it to threads."
        raise ZetaError(_WHERE, problem, remedy) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_SECONDS)
        except TimeoutError:
            problem = f"the Dask scheduler at {address} has no workers"
            raise ZetaError(_WHERE, problem, f"Start some (`dask worker {address}`).") from None
        try:
            client.run_on_scheduler(_loads)
            client.run(_loads)
        except Exception as error:  # whatever the import of another checkout raises
            problem = f"the scheduler or a worker cannot load this zetalib ({type(error).__name__})"
            remedy = "Start them in this checkout, in its environment."
            raise ZetaError(_WHERE, problem, remedy) from None
        client.subscribe_topic("all", _say)
        try:
            cores = sum(client.nthreads().values())
            yield Pool(partial(client.submit, pure=False), workers or cores)
        except distributed.KilledWorker as error:
            problem = f"workers died over and over at one task ({error})"
            remedy = "See their logs: memory, most likely. What is done is kept; run again."
            raise ZetaError(_WHERE, " ".join(problem.split()).rstrip("."), remedy) from None
        except (distributed.CancelledError, distributed.comm.CommClosedError):
            problem = f"the Dask scheduler at {address} was lost"
            raise ZetaError(_WHERE, problem, "What is done is kept; start it, run again.") from None
        finally:
            if client.status == "running":
                client.unsubscribe_topic("all")


def _loads() -> None:
    """Nothing: to be found under this name is the test."""


def _say(event: tuple[float, Any]) -> None:
    _, what = event
    if isinstance(what, dict) and what.get("action") == "remove-worker":
        print(f"worker {what['worker']} is gone; what it was at is done again", flush=True)


def map_threads(calls: Iterable[tuple[Any, ...]], function: Callable[..., Any]) -> list[Any]:
    """Call `function` with each of `calls` on all cores; for kernels, which hold no lock."""
    listed = list(calls)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda arguments: function(*arguments), listed)
        return list(progress.track(found, "solved", len(listed)))


def map_forks(
    calls: Sequence[Callable[[], Any]], what: str = "", *, forks: bool = True
) -> list[Any]:
    """Return what each of `calls` returns, each in a process forked from this one, a core each.

    For work that torch does in small steps: two threads of one process wait for each other more
    than they work, beside other jobs above all. What the calls change is lost; what they share
    should be made ready before. One after another where there is one core or no fork.

    Parameters
    ----------
    what : they are, for the line of progress; empty: there is none
    forks : False: one after another
    """
    if not calls:
        return []

    def shown(items: Iterable[Any]) -> Iterable[Any]:
        return progress.track(items, what, len(calls)) if what else items

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    alone = cores == 1 or len(calls) == 1 or "fork" not in multiprocessing.get_all_start_methods()
    if alone or not forks:
        return [call() for call in shown(calls)]
    found = dict(shown(_forked(calls, cores)))
    return [found[place] for place in range(len(calls))]


def _forked(calls: Sequence[Callable[[], Any]], cores: int) -> Iterator[tuple[int, Any]]:
    """Place and answer of each call, as they come."""
    context = multiprocessing.get_context("fork")
    waiting = list(enumerate(calls))
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < cores:
                place, call = waiting.pop(0)
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_answer, args=(call, there), daemon=True)
                process.start()
                there.close()
                running[here] = place, process
            ready: list[Any] = multiprocessing.connection.wait([*running])
            for here in ready:
                place, process = running.pop(here)
                try:
                    good, value = here.recv()
                except EOFError:
                    process.join()
                    raise ChildProcessError(f"a process ended with {process.exitcode}") from None
                process.join()
                if not good:
                    raise value
                yield place, value
    finally:
        for _, process in running.values():
            process.kill()


def _answer(call: Callable[[], Any], there: Any) -> None:
    """In a forked process: call, with one thread, and send what is returned or raised."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    try:
        answer = True, call()
    except Exception as error:
        answer = False, error
    there.send(answer)
    there.close()
