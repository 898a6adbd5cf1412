"""Statistics of trajectories, against point processes that are known."""

import numpy as np
import pytest

from zetalib.scoring import trajectories

TRAJECTORIES, STEPS = 200, 300


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    sampled = rng.exponential(size=(TRAJECTORIES, STEPS))
    return trajectories.statistics(sampled, 0.9 + 0.2 * rng.random((TRAJECTORIES, STEPS)))


def test_a_poisson_process_has_poisson_statistics(table):
    for name, part in table.groupby("statistic"):
        wide = part.pivot_table(index="x", columns="series", values="value")
        error = part[part.series == "sampled"].set_index("x").error
        z = (wide["sampled"] - wide["Poisson"]) / error
        # The density is a bin's mean, its law the value at the middle; few errors are zero.
        assert np.sqrt(np.square(z).mean()) < 2, name


def test_departures_tell_a_lattice_from_what_is_not(table):
    found = trajectories.departures(table)
    assert set(found) == {"density", "autocorrelation", "number variance", "form factor"}
    assert found["number variance"] > 5  # Poisson against a near lattice, GUE in between
    same = table.copy()
    zeros = table[table.series == "zeros"].value.to_numpy()
    same.loc[same.series == "sampled", "value"] = zeros
    assert max(trajectories.departures(same).values()) == 0


def test_short_trajectories_have_statistics_of_shorter_intervals():
    short = np.random.default_rng(2).gamma(6, 1 / 6, (50, 10))
    found = trajectories.statistics(short, short)
    assert found[found.statistic == "number variance"].x.max() < 10
    assert found.drop(columns="error").notna().all(axis=None)
