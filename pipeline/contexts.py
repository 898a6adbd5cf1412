"""Stage contexts: what longer contexts than a window bring to forecasters that are no networks."""

from typing import Any

import pandas as pd

from zetalib import atomic, params
from zetalib.baselines import explicit_formula
from zetalib.data import window
from zetalib.errors import ZetaError, run_stage
from zetalib.scoring import contexts


def main() -> None:
    p = params.load()
    c = p.contexts
    splits = [window.load("data/windows", split) for split in window.SPLITS]
    record, fit, tail = contexts.joined(splits), len(splits[0]), len(splits[0]) + len(splits[1])
    height = splits[2].heights().numpy()
    metrics: dict[str, Any] = {}
    law = [contexts.resolution(contexts.KNOWN, float(height[0]))]
    in_height = explicit_formula.holds(height) and p.unfold.variant == "B"
    for context, number in c.explicit if in_height else []:
        try:
            stretches = contexts.stretches(record, (tail, len(record)), context, number, c.targets)
        except ZetaError as error:
            print(f"left out: {error}")
            continue
        found = contexts.by_explicit_formula(stretches, c.targets)
        metrics[f"explicit formula, {context}"] = found
        law.append(contexts.row("explicit formula", context, found))
        print(f"explicit formula given {context}: NLL {found['nll']:.3f}", flush=True)
    if p.invert.solve:
        try:
            context, number = c.inversion
            below, above = (
                contexts.stretches(record, part, context, number, c.targets)
                for part in ((fit, tail), (tail, len(record)))
            )
        except ZetaError as error:
            print(f"left out: {error}")
        else:
            end, by_known = contexts.transition(below, above, c.targets)
            metrics["inversion"] = {**end, "by_known": by_known}
            law += [contexts.row("inversion alone", k, found) for k, found in by_known.items()]
            print(f"inversion: {end['within_0.0001']:.2%} of {end['targets']} within 1e-4")
    atomic.write_metrics("metrics/contexts.json", metrics)
    atomic.write_table("plots/contexts.csv", pd.concat(law))


if __name__ == "__main__":
    run_stage(main)
