"""Check params.yaml, and that what it asks for is here, without running anything."""

from zetalib import compute, params
from zetalib.errors import run_stage


def main() -> None:
    with compute.pool(params.load().compute):  # a scheduler that does not answer is said now
        print("params.yaml is valid")


if __name__ == "__main__":
    run_stage(main)
