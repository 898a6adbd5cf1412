"""Stage baselines: forecasters that are no networks, scored on the targets of the val tail."""

from zetalib import atomic, params, shares
from zetalib.baselines import autoregression, explicit_formula, inversion_density, rivals
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.inverse import solutions
from zetalib.scoring import skill


def main() -> None:
    p = params.load()
    b = p.baselines
    fit, tail = (window.load("data/windows", split) for split in ("train", "val"))
    near = fit[shares.part(len(fit), b.skip_lowest) :]
    ar = autoregression.best_ar(fit, b.ar_orders, b.ar_skips)
    reachable = sorted({min(places, autoregression.reach(fit)) for places in b.height_places})
    places, _ = autoregression.chosen(
        autoregression.fit_ar_in_height, fit, reachable, [b.skip_lowest]
    )
    entrants: dict[str, autoregression.Rival] = {
        "marginal": rivals.fit_marginal(near),
        "GUE surmise": rivals.surmise(),
        f"sine process, {b.gaps} gaps": rivals.by_sine_process(b.gaps),
        f"AR({ar.order})": ar,
        f"AR in height, {places} places": autoregression.fit_ar_in_height(near, places),
    }
    if explicit_formula.holds(tail.heights().numpy()):
        entrants["explicit formula"] = explicit_formula.forecaster()
    if p.unfold.variant == "A":  # the others take the mean for 1, or spacings for heights
        entrants = {name: entrants[name] for name in ("marginal", f"AR({ar.order})")}
    if p.invert.solve:
        solved = fit[shares.part(len(fit), p.invert.skip_lowest) :]
        known = solutions.load(*(f"data/inversion/{s}.safetensors" for s in ("train", "val")))
        entrants["inversion alone"] = inversion_density.fit_inversion(solved, known)
    scores = {}
    for name, rival in entrants.items():
        every = b.explicit_every if name == "explicit formula" else 1
        scores[name] = skill.scored(rival, tail, every)
        print(f"{name:28s} NLL {scores[name].nll.mean():.4f}", flush=True)
    skill.write("data/rivals.parquet", scores)
    metrics, _ = skill.compare(scores, len(tail), p.window.length, b.block)
    atomic.write_metrics("metrics/baselines.json", metrics)


if __name__ == "__main__":
    run_stage(main)
