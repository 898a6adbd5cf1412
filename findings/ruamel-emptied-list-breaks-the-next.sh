#!/usr/bin/env bash
# ruamel.yaml 0.19.1: a list under a commented key, set to [], makes the next list in the file unreadable
#
# Guess before running: the round trip keeps comments and writes `x: [] # note`; what follows stays as it was.
# Seen: `x:   [] # note` is followed by `y: -` and, on a line of its own, `3`: a YAML error when read back. An empty mapping in the
# same place, a list that is not empty, or a next key that is no list are written right. Guess wrong.
#
# Why it matters: DVC 3.67.1 writes params.yaml so: `dvc exp run -S a.x=[]` on this file ends with "YAML file structure is corrupted",
# and what is left in the workspace is that file. (A comment above a key that follows a list is lost instead.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ruamel.yaml==0.19.1
cat > "$folder/try.py" <<'P'
import importlib.metadata
import io
import sys

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

print("ruamel.yaml", importlib.metadata.version("ruamel.yaml"))
COMMENTED = "x:   # note\n- 1\ny:\n- 3\n"
ABOVE = "# note\nx:\n- 1\ny:\n- 3\n"
seen = []
for text, new in ((COMMENTED, []), (COMMENTED, {}), (COMMENTED, [7]), (ABOVE, [])):
    tree, out = YAML().load(text), io.StringIO()
    tree["x"] = new
    YAML().dump(tree, out)
    try:
        back = dict(YAML(typ="safe").load(out.getvalue()))
    except YAMLError as error:
        back = type(error).__name__
    print(f"{text!r}, x set to {new}: written {out.getvalue()!r}, read back {back}")
    seen.append(back == {"x": new, "y": [3]})
if seen != [False, True, True, True]:
    sys.exit("CHANGED: which of them are written right")
P
"$folder/venv/bin/python" "$folder/try.py"
