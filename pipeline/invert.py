"""Stage invert: solve windows as an inverse problem, for models that start from its forecasts."""

from zetalib import params, shares
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.inverse import noise, solutions


def main() -> None:
    p = params.load().invert
    for split in window.SPLITS:
        windows = window.load("data/windows", split)
        skipped = p.skip_lowest * (split == "train") if p.solve else 1.0
        windows = windows[shares.part(len(windows), skipped) :]
        spacing, height = windows.spacing.numpy(), windows.heights().numpy()
        found = noise.forecasts(spacing[:, :-1], height, p.noise)
        path = f"data/inversion/{split}.safetensors"
        solutions.save(path, spacing[:, :-1], height, found, noise=p.noise)
        print(f"{split}: {len(windows)} windows solved", flush=True)


if __name__ == "__main__":
    run_stage(main)
