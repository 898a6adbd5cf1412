"""Stage decode: archive files to Parquet with rank, height and exact gap."""

from zetalib import compute, params
from zetalib.data import decode
from zetalib.errors import run_stage


def main() -> None:
    p = params.load()
    with compute.pool(p.compute) as pool:
        count = decode.decode_folder("data/raw", "data/zeros", p.decode.garbage, pool.map)
    print(f"{count:,} zeros decoded")


if __name__ == "__main__":
    run_stage(main)
