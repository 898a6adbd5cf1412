#!/usr/bin/env bash
# DVC 3.67.1: the same uncached CSV under `outs:` turns the run cache off, under `plots:` it does not
#
# Guess before running: `cache: false` means that git keeps the file, so the run cache cannot restore the stage wherever the file is
# listed; the key under which it is listed only decides what `dvc plots show` draws.
# Seen: set a parameter, reproduce, set it back, reproduce. Under `plots:` DVC says that the stage is cached, restores weights and the
# uncached CSV alike, and does not run the command; under `outs:`, with a top-level `plots:` that names the file, it runs again and
# says nothing. (metrics behave as plots do.)
#
# Why it matters: the layout of DVC's own examples, plots among `outs` with `cache: false` and drawn by top-level `plots:`, costs a
# training whenever one goes back to an earlier setting.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$folder/venv/bin:$PATH" DVC_NO_ANALYTICS=1
dvc --version
declare -A runs
for key in outs plots; do
  mkdir "$folder/$key"
  cd "$folder/$key"
  git init -q
  dvc init -q
  cat > dvc.yaml <<YAML
stages:
  train:
    cmd: echo run >> log; cp params.yaml model; printf 'step,loss\n1,2\n' > curve.csv
    params: [x]
    outs:
      - model
$([ $key = outs ] || echo "    plots:")
      - curve.csv:
          cache: false
YAML
  [ $key = plots ] || printf 'plots:\n  - curve.csv\n' >> dvc.yaml
  for x in 1 2 1; do
    echo "x: $x" > params.yaml
    dvc repro --quiet
  done
  runs[$key]=$(wc -l < log)
  echo "curve.csv under $key: the command ran ${runs[$key]} times for x = 1, 2, 1"
done
if [ "${runs[outs]}" != 3 ] || [ "${runs[plots]}" != 2 ]; then
  echo "CHANGED: outs and plots no longer differ" >&2
  exit 1
fi
