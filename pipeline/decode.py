"""Stage decode: archive files to Parquet with rank, height and exact gap."""

from zetalib import params, zeros
from zetalib.errors import run_stage


def main() -> None:
    count = zeros.decode_folder("data/raw", "data/zeros", params.load().decode.garbage)
    print(f"{count:,} zeros decoded")


if __name__ == "__main__":
    run_stage(main)
