"""What a predictive distribution of spacings may be: a mixture of Gaussians or a histogram."""

from __future__ import annotations

from zetalib.densities.histogram import Gridded
from zetalib.densities.mixture import Mixture

Density = Mixture | Gridded
