#!/usr/bin/env bash
# DVC 3.67.1: `dvc exp run` deletes files outside the repository, behind an output folder that is a link
#
# Guess before running: an output that is a link to a folder is replaced as a link; at worst DVC refuses. What the link leads to, on
# another disk, is nobody's output and stays.
# Seen: an output folder moved to another disk with a link in its place, a note of the user's beside the outputs there. `dvc status` calls
# the output modified. `dvc exp run` of the stage that reads it, exit status 0, keeps the link and deletes the note without a word; no
# cache has it.
#
# Why it matters: moving data/ to a larger disk and linking it is what people do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$folder/venv/bin:$PATH" DVC_NO_ANALYTICS=1
dvc --version
mkdir "$folder/repository" "$folder/disk"
cd "$folder/repository"
git init -q
dvc init -q
cat > dvc.yaml <<'YAML'
stages:
  download:
    cmd: mkdir -p raw && echo zeros > raw/zeros
    params: [n]
    outs: [raw]
  train:
    cmd: cp params.yaml model
    deps: [raw]
    params: [x]
    outs: [model]
YAML
printf 'n: 1\nx: 1\n' > params.yaml
dvc repro --quiet
git add -A
git -c user.name=a -c user.email=a@example.org commit -qm one
mv raw "$folder/disk/raw"
ln -s "$folder/disk/raw" raw
echo mine > "$folder/disk/raw/note"
dvc exp run --quiet -S x=3 && status=0 || status=$?
note=$([ -e "$folder/disk/raw/note" ] && echo there || echo gone)
link=$([ -L raw ] && echo kept || echo replaced)
echo "exp run: status $status, the link $link, the note behind it $note"
if [ "$status $link $note" != "0 kept gone" ]; then
  echo "CHANGED: exp run no longer deletes what lies behind the link" >&2
  exit 1
fi
