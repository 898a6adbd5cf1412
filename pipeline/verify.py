"""Stage verify: the gate. All zeros there, each in its place, statistics as they should be."""

from zetalib import atomic, compute, params
from zetalib.data import verify
from zetalib.errors import run_stage


def main() -> None:
    p = params.load()
    control = p.download.source in params.CONTROLS
    zeta = not control if p.verify.zeta is None else p.verify.zeta
    with compute.pool(p.compute) as pool:
        metrics, plots = verify.verify_folders(
            "data/zeros",
            "data/spacings",
            p.verify,
            zeta=zeta,
            val_fraction=p.window.val_fraction,
            run=pool.map,
        )
    for name, table in plots.items():
        atomic.write_table(f"plots/verify/{name}.csv", table)
    atomic.write_metrics("metrics/verify.json", metrics)
    print(verify.say(metrics))


if __name__ == "__main__":
    run_stage(main)
