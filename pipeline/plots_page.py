"""Setup: make `dvc plots` pages open without the network.

DVC's pages load the Vega libraries from a CDN; this writes a page template that carries them
(as shipped by vl-convert) and points this checkout's local DVC configuration at it.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>zetalib</title>
<style>body {font-family: sans-serif; margin: 2em} img {max-width: 60em}</style>
<script type="module">%s</script>
<script>
const waiting = [];
window.vegaEmbed = (place, spec) => waiting.push([place, spec]);
</script>
</head>
<body>
{plot_divs}
<script type="module">
for (const [place, spec] of waiting) window.vegaEmbedReady(place, spec, {actions: false});
</script>
</body>
</html>
"""


def main() -> None:
    page = Path(sys.prefix) / "plots_page.html"
    bundle = vl_convert.javascript_bundle("window.vegaEmbedReady = vegaEmbed;")
    page.write_text(PAGE % bundle, encoding="utf-8")
    setting = ["config", "--local", "plots.html_template", str(page)]
    subprocess.run([sys.executable, "-m", "dvc", *setting], check=True)


if __name__ == "__main__":
    main()
