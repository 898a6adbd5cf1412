#!/usr/bin/env bash
# DVC 3.67.1: 1, 1.0 and true are one parameter, so are 0 and false: changing between them runs nothing
#
# Guess before running: the types are told apart, since dvc.lock is compared as YAML; a parameter .nan is "changed" for ever, since
# it equals nothing.
# Seen: params.yaml changed from 1 to true, from 0 to false or from 1 to 1.0 leaves the pipeline up to date, and the output holds
# the old text; 1 to "1" runs the stage. A parameter .nan is up to date too. Guess wrong on both counts.
#
# Why it matters: switches of a forecaster are such values (a weight 1 or true, a floor 0 or false). The stage reads another type,
# dvc.lock holds the old one, and a result is attributed to settings that it was not made with.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dvc==3.67.1
export DVC_NO_ANALYTICS=1
dvc=$folder/venv/bin/dvc
"$dvc" --version | sed 's/^/dvc /'
mkdir repo
cd repo
"$dvc" init --quiet --no-scm
cat > dvc.yaml <<'E'
stages:
  show:
    cmd: cat params.yaml > seen && echo ran >> ../runs
    params: [gate]
    outs: [seen]
E
failed=0
try() { # first value, second value, whether repro is expected to run
    : > ../runs
    echo "gate: $1" > params.yaml
    "$dvc" repro --quiet --force > ../log 2>&1
    : > ../runs
    echo "gate: $2" > params.yaml
    "$dvc" repro --quiet > ../log 2>&1
    count=$(wc -l < ../runs)
    echo "gate: $1 -> $2: expected to run: $3, runs seen: $count, the stage's output holds \"$(cat seen)\", params.yaml \"$(cat params.yaml)\""
    [ "$count" -eq "$4" ] || failed=1
}
try 1 true yes 0
try 0 false yes 0
try 1 1.0 yes 0
try 1 '"1"' yes 1
try 0.5 0.5 no 0
try .nan .nan no 0
if [ "$failed" -eq 1 ]; then
    echo "CHANGED: dvc compares parameters differently" >&2
    exit 1
fi
