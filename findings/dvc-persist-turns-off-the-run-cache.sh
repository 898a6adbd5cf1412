#!/usr/bin/env bash
# DVC 3.67.1: a stage whose output has `persist: true` is never restored from the run cache.
#
# Guess before running: `persist` keeps an output from being removed before its stage runs, so that
# the command can build on it; the run cache, which restores what was computed before from
# the same inputs, has nothing to do with it.
# Seen: set a parameter, reproduce, set it back, reproduce: without `persist` DVC says that the stage
# is cached and skips it; with `persist` the command runs again, and nothing is said of it.
#
# Why it matters: `persist` on the weights of a model looks like the cure for outputs that a failed
# experiment loses; its price is that going back to a parameter trains again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dvc==3.67.1
export PATH="$folder/venv/bin:$PATH" DVC_NO_ANALYTICS=1
status=0
for persist in false true; do
  mkdir "$folder/$persist"
  cd "$folder/$persist"
  git init -q
  dvc init -q
  cat > dvc.yaml <<YAML
stages:
  square:
    cmd: echo run >> log; python3 -c 'import re; x = int(re.findall("[0-9]+", open("params.yaml").read())[0]); open("out", "w").write(str(x * x))'
    params: [x]
    outs:
      - out:
          persist: $persist
YAML
  for x in 2 3 2; do
    echo "x: $x" > params.yaml
    dvc repro > said
  done
  runs=$(wc -l < log)
  echo "persist: $persist: the command ran $runs times for x = 2, 3, 2; DVC's last words: $(tr '\n' ' ' < said)"
  [ "$(cat out)" = 4 ]
  if [ $persist = true ]; then expected=3; else expected=2; fi
  [ "$runs" = $expected ] || { echo "CHANGED: expected $expected runs"; status=1; }
done
exit $status
