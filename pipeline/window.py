"""Stage window: spacings to windows, split by height into train, calibration and val."""

from zetalib import atomic, compute, params
from zetalib.data import window
from zetalib.errors import run_stage


def main() -> None:
    p = params.load()
    with compute.pool(p.compute) as pool:
        meta = window.window_folder("data/spacings", "data/windows", p.window, pool.map)
    atomic.write_metrics("metrics/window.json", window.summary(meta))
    sizes = {name: split["windows"] for name, split in meta["splits"].items()}
    print(f"windows of {meta['length']}: {sizes}, {meta['dropped']} spacings left over")


if __name__ == "__main__":
    run_stage(main)
