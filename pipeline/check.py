"""Check params.yaml without running anything."""

from zetalib import params
from zetalib.errors import run_stage

if __name__ == "__main__":
    run_stage(lambda: print("params.yaml is valid" if params.load() else ""))
