"""Zeros of zeta without files: how their heights are unfolded, how random matrices space them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Floats = NDArray[np.float64]
Variant = Literal["A", "B"]


def spacings(gamma: Floats, gap: Floats, variant: Variant = "B") -> Floats:
    """Unfolded spacing after each zero, in mean spacings.

    Variant B is the increment of u(t) = t/(2 pi) log(t/(2 pi e)) from gamma to gamma + gap,

        s = [gap log(gamma/(2 pi e)) + (gamma + gap) log1p(gap/gamma)] / (2 pi),

    in which nothing cancels: u itself is never formed, so at t = 3e10 a spacing keeps all its
    digits where u(gamma + gap) - u(gamma) in float64 keeps five. Variant A is
    s = gap log(gamma) / (2 pi).

    Parameters
    ----------
    gamma, gap : float64 arrays, shape (n,)
        Height of each zero and exact distance to the next.
    """
    if variant == "A":
        return np.asarray(gap * np.log(gamma) / (2 * np.pi))
    density = np.log(gamma / (2 * np.pi * np.e))
    return np.asarray((gap * density + (gamma + gap) * np.log1p(gap / gamma)) / (2 * np.pi))


def gue_surmise(s: Floats) -> Floats:
    """Wigner's surmise for GUE spacings, P(s) = (32/pi^2) s^2 exp(-4 s^2/pi)."""
    return 32 / np.pi**2 * s**2 * np.exp(-4 * s**2 / np.pi)


def surmise_mass(edges: Floats) -> Floats:
    """Probability of each cell under the surmise (32/pi^2) s^2 exp(-4 s^2/pi); shape (m - 1,)."""
    below = erf(2 * edges / np.sqrt(np.pi)) - 4 * edges / np.pi * np.exp(-4 * edges**2 / np.pi)
    return np.asarray(np.diff(below))
