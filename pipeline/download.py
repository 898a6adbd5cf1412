"""Stage download: zeros from the chosen source, as archive files with a manifest."""

from zetalib import params
from zetalib.errors import run_stage
from zetalib.sources import download


def main() -> None:
    manifest = download.fetch(params.load().download, "data/raw")
    print(
        f"{manifest['zeros']:,} zeros in {len(manifest['files'])} files from {manifest['source']}"
    )


if __name__ == "__main__":
    run_stage(main)
