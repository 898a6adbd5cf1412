"""Stage train: fit the forecaster; a killed run resumes from data/checkpoints."""

from functools import partial

from zetalib import atomic, model, params, train, window
from zetalib.errors import run_stage

CHECKPOINT = "data/checkpoints/train.pt"


def main() -> None:
    p = params.load()
    windows = window.load("data/windows", "train")
    log = partial(print, flush=True)
    result = train.train(windows, p.model, p.memory, p.losses, p.train, CHECKPOINT, log)
    model.save(result.model, "data/model")
    atomic.write_bytes("plots/learning_curve.csv", train.curve_csv(result).encode())
    atomic.write_json("metrics/train.json", train.summary(result))
    train.discard(CHECKPOINT)


if __name__ == "__main__":
    run_stage(main)
