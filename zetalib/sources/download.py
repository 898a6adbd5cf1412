"""Where zeros come from. Every source leaves the same thing: archive files in one folder.

A source is a function ``(params, folder)`` that writes ``zeros_*.dat`` into an empty folder;
:data:`SOURCES` is the seam for further ones. :func:`fetch` runs one and adds the manifest, with
what the source returns for it, if it does: md5s it has taken already, bases of heights and ranks.
Only `lmfdb` works on the folder of an earlier run, to keep what is good there.
"""

from __future__ import annotations

import hashlib
import pickletools
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zetalib import atomic
from zetalib.archive import codec, layout, manifest
from zetalib.archive.manifest import Besides, Known
from zetalib.errors import ZetaError
from zetalib.params import Download
from zetalib.sources import controls, exact, listings, lmfdb, riemann_siegel, tables

# Odlyzko's table of the first 2,001,052 zeros, accurate to 4e-9, as redistributed on PyPI.
ODLYZKO_PACKAGE = "passagemath-database-odlyzko-zeta==10.8.13"
ODLYZKO_MEMBER = "sage_wheels/share/odlyzko/zeros.sobj"
ODLYZKO_SHA256 = "1cebd3bf17c77958c5eef1d78d51338224dd086c0f5ad0874277a82af0f9939e"


def fetch(params: Download, folder: str | Path) -> dict[str, Any]:
    """Bring zeros from ``params.source`` into `folder` with a manifest.

    `folder` then holds these files and the manifest alone, whatever it held before. All of it is
    replaced or nothing; source `lmfdb` may leave good files without a manifest when it fails.

    Returns
    -------
    dict
        The manifest, also written to ``folder/manifest.json``: source, number of zeros and, for
        each file, name, bytes, md5, first and last rank.

    Raises
    ------
    ZetaError
        When the source cannot deliver, or the disk cannot take what it delivers.
    """
    folder = Path(folder)
    for given in (params.directory, params.table):
        if given is not None:
            check_apart(Path(given).expanduser(), folder)
    try:
        if params.source == "lmfdb":
            known = lmfdb.download(params, folder)
            return manifest.write(folder, params.source, Besides(known))
        if folder.is_dir():  # before anything is computed
            atomic.check_ours(folder, manifest.ours(folder))
        with atomic.replacing(folder, manifest.ours(folder)) as aside:
            aside.mkdir()
            besides = SOURCES[params.source](params, aside)
            return manifest.write(aside, params.source, besides)
    except OSError as error:
        problem = f"it could not be read or written ({error.strerror or error})"
        remedy = "Free room on the disk or correct the permissions, then run it again."
        raise ZetaError(error.filename or folder, problem, remedy) from error


def check_apart(given: Path, folder: Path) -> None:
    """Refuse input that lies where output goes, links followed.

    Raises
    ------
    ZetaError
        If `given`, a file or folder of the user's, is `folder` or lies in it.
    """
    mine, out = given.resolve(), folder.resolve()
    if mine == out or out in mine.parents:
        how = "the same folder as" if mine == out else "inside"
        problem = f"{given} is {how} {folder}, which this stage replaces"
        remedy = "Move your files elsewhere (they are as they were) and name that folder."
        raise ZetaError("params.yaml: download", problem, remedy)


def directory(params: Download, folder: Path) -> Besides:
    """Copies of archive files the user already has, in ``download.directory``.

    With ``download.max_zeros`` only the files needed to reach that many zeros are taken;
    ZetaError if there are fewer. Listings of md5s beside the files are used
    (:func:`zetalib.sources.listings.beside`): ZetaError if a file has another md5.
    """
    if params.directory is None:
        raise ZetaError(
            "params.yaml: download.directory",
            "source 'directory' needs the folder of your zeros_*.dat files, and it is null",
            "Set it, e.g. -S download.directory=/data/platt.",
        )
    origin = Path(params.directory).expanduser()
    if not origin.is_dir():
        raise ZetaError(
            "params.yaml: download.directory", f"{origin} is not a folder", "Correct the path."
        )
    paths = codec.numeric_order(origin)
    vouched, used = listings.beside(origin, {path.name for path in paths})
    known: dict[str, Known] = {}
    zeros = 0
    try:
        for file in codec.read_chain(paths):
            name = file.path.name
            md5 = _copy(file.path, folder / name)
            known[name] = listings.check(file.path, md5, vouched.get(name))
            zeros += file.headers[-1].n1 - file.headers[0].n0
            if params.max_zeros is not None and zeros >= params.max_zeros:
                break
    except codec.FileFault as fault:
        listed = {name: Known(said.md5, str(said)) for name, said in vouched.items()}
        raise manifest.explained(fault, listed, "Fetch the file again.") from None
    _check_enough(params, zeros, str(origin))
    _tell(origin, known, used)
    return Besides(known)


def _copy(path: Path, to: Path) -> str:
    """Copy a file; its md5, taken in the same pass.

    A copy, not a link: DVC makes what it caches read-only, and the file is the user's own.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source, to.open("wb") as out:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _tell(origin: Path, known: dict[str, Known], used: list[str]) -> None:
    """Print which files no listing names, where there is a listing."""
    if not used:
        return
    those = ", ".join(used[:3]) + (", …" if used[3:] else "")
    silent = [name for name, file in known.items() if file.listing is None]
    text = f"{origin}: {len(known) - len(silent):,} of {len(known):,} files have the md5 of {those}"
    if silent:
        text += f"; not listed, so not checked: {', '.join(silent[:3])}"
        text += f" and {len(silent) - 3:,} more" if silent[3:] else ""
    print(text, flush=True)


def _check_enough(params: Download, zeros: int, where: str) -> None:
    if params.max_zeros is not None and zeros < params.max_zeros:
        raise ZetaError(
            "params.yaml: download.max_zeros",
            f"it asks for {params.max_zeros} zeros, {where} has {zeros}",
            "Set it to null for all there are.",
        )


def odlyzko(params: Download, folder: Path) -> None:
    """Odlyzko's 2,001,052 zeros from PyPI, transcoded into archive files."""
    table = odlyzko_table()
    _check_enough(params, len(table), "Odlyzko's table")
    for name, content in layout.files(table[: params.max_zeros]):
        print(f"writing {name}", flush=True)
        atomic.write_bytes(folder / name, content)


def odlyzko_table() -> NDArray[np.float64]:
    """Heights of Odlyzko's 2,001,052 zeros, shape (2001052,), from PyPI.

    pip downloads the pinned package (a pure data wheel) from whatever index it is set up for.
    The table is a pickle of floats: it is read as a list of floats and nothing else, never
    unpickled.
    """
    with tempfile.TemporaryDirectory() as scratch:
        print(f"downloading {ODLYZKO_PACKAGE} with pip", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, ODLYZKO_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no word"]
            raise ZetaError(
                ODLYZKO_PACKAGE,
                f"pip could not download it ({said[-1].strip()})",
                "Check the network or pip's index, or use download.source=directory.",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            packed = wheel.read(ODLYZKO_MEMBER)
    digest = hashlib.sha256(packed).hexdigest()
    if digest != ODLYZKO_SHA256:
        raise ZetaError(
            ODLYZKO_MEMBER,
            f"sha256 is {digest}, expected {ODLYZKO_SHA256}",
            "The package is not the one this pipeline was built on; do not use it.",
        )
    return floats_of_pickle(zlib.decompress(packed))


def floats_of_pickle(data: bytes) -> NDArray[np.float64]:
    """The floats of a pickled flat list, by walking its opcodes: no code of it can run.

    Raises
    ------
    ValueError
        If the pickle holds anything but one list of floats.
    """
    structure = {"PROTO", "EMPTY_LIST", "BINPUT", "MARK", "APPENDS", "STOP"}
    values: list[float] = []
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name == "BINFLOAT" and isinstance(argument, float):
            values.append(argument)
        elif opcode.name not in structure:
            raise ValueError(f"pickle opcode {opcode.name} at byte {position}: not a float list")
    return np.array(values)


SOURCES: dict[str, Callable[[Download, Path], Besides | None]] = {
    "odlyzko": odlyzko,
    "directory": directory,
    "table": tables.write,
    "exact": exact.write,
    "siegel": riemann_siegel.fetch,
    "gue": controls.gue,
    "poisson": controls.poisson,
    "shuffled": partial(controls.shuffled, table=odlyzko_table),
    "primes": controls.primes,
}
