"""Stage unfold: heights to spacings of mean one, and their statistics."""

from zetalib import atomic, compute, params
from zetalib.data import unfold
from zetalib.errors import run_stage


def main() -> None:
    p = params.load()
    with compute.pool(p.compute) as pool:
        found = unfold.unfold_folder("data/zeros", "data/spacings", p.unfold.variant, pool.map)
    statistics = found.statistics()
    atomic.write_metrics("metrics/unfold.json", statistics)
    print(" | ".join(f"{name} {value:.7g}" for name, value in statistics.items()))


if __name__ == "__main__":
    run_stage(main)
