"""Stage unfold: heights to spacings of mean one, and their statistics."""

from zetalib import atomic, params, unfold
from zetalib.errors import run_stage


def main() -> None:
    statistics = unfold.unfold_folder("data/zeros", "data/spacings", params.load().unfold.variant)
    atomic.write_json("metrics/unfold.json", statistics)
    print(" | ".join(f"{name} {value:.7g}" for name, value in statistics.items()))


if __name__ == "__main__":
    run_stage(main)
