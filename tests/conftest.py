import itertools

import numpy as np
import pytest
from hypothesis import settings
from small_graph import PLATT, ROOT, clone  # noqa: F401, a fixture of each file that asks
from threadpoolctl import threadpool_limits

from zetalib.archive import codec, fixed_point, manifest
from zetalib.archive.codec import Block, Header
from zetalib.reports import experiments
from zetalib.sources import riemann_siegel
from zetalib.theory import zeta

settings.register_profile("zetalib", deadline=None, derandomize=True)
settings.load_profile("zetalib")


FIRST = ["whole_graph", "engine", "params", "results", "diagnostics", "dvc_experiments"]


def pytest_collection_modifyitems(items):
    """What takes longest goes first, and the second file that needs the graph once it has run."""
    place = {f"test_{name}.py": k for k, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def one_blas_thread():
    """As in `inversion.together`: with several, BLAS adds in another order."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture
def lmfdb_file(tmp_path):
    path = tmp_path / "zeros_14.dat"
    path.write_bytes(PLATT.read_bytes())
    return path


@pytest.fixture
def defaults():
    """The parameters of the network alone: a model that solves windows first takes its time."""
    return experiments.resolve("network-only", None, ROOT / "experiments", ROOT / "params.yaml")


def changed(section, **changes):
    """A section of the parameters with some values replaced, checked again."""
    return type(section).model_validate({**section.model_dump(), **changes})


def zeros(height, count):
    """Spacings of `count` + 1 zeros from `height` on and the height of the first, in full."""
    offset = riemann_siegel.stretch(height, height + count + count % 2).offset[: count + 1]
    return zeta.spacings(height + offset[:-1], np.diff(offset)), height + offset[0]


def synthetic_blocks(seed=0, bounds=(14.0, 100.0, 200.0, 300.0), per_block=20, n0=0):
    """Blocks of random heights with all 101 fractional bits in use, gaps below the format's 8."""
    rng = np.random.default_rng(seed)
    blocks = []
    for t0, t1 in itertools.pairwise(bounds):
        start, end = fixed_point.float_to_int(t0), fixed_point.float_to_int(t1)
        room = min((end - start) // max(per_block, 1), 2**104 - 1)
        gaps = [1 + int(rng.random() * 2**53) * (room - 1) // 2**53 for _ in range(per_block)]
        heights = fixed_point.from_ints([start + sum(gaps[: k + 1]) for k in range(per_block)])
        blocks.append(Block(Header(t0, t1, n0, n0 + per_block, 0), heights))
        n0 += per_block
    return blocks


def write_folder(folder, files):
    """A raw folder from {first height: blocks}, with its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for t0, blocks in files.items():
        (folder / codec.file_name(t0)).write_bytes(codec.encode(blocks))
    manifest.write(folder, "test")
    return folder
