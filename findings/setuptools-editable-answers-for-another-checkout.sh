#!/usr/bin/env bash
# setuptools 80.9.0: an editable install lends its modules to another checkout that stands first on the path
#
# Guess before running: a package is one folder. With a second checkout of it first on PYTHONPATH, `import toy` is that checkout, and a
# module that it does not have is an ImportError, whatever is installed.
# Seen: with a package listed by name (`packages = ["toy"]`) pip writes a finder that stands at the end of sys.meta_path and answers for
# every submodule that nobody else found: `toy` is the second checkout, `toy.old` comes from the first, in one process.
#
# Why it matters: in a git worktree a module that was moved or deleted still imports, with yesterday's code; a test run there is green.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check setuptools==80.9.0 wheel==0.45.1
for checkout in first second; do
  mkdir -p "$folder/$checkout/toy"
  printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "toy"\nversion = "1"\n[tool.setuptools]\npackages = ["toy"]\n' > "$folder/$checkout/pyproject.toml"
  echo "WHERE = '$checkout'" > "$folder/$checkout/toy/__init__.py"
  mkdir "$folder/$checkout/other"
done
echo "WHERE = 'first'" > "$folder/first/toy/old.py"  # the second has moved it
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --editable "$folder/first"
cd "$folder"
seen=$(PYTHONPATH="$folder/second" "$folder/venv/bin/python" -c "import toy, toy.old; print(toy.WHERE, toy.old.WHERE)" 2>&1 | tail -1)
echo "toy and toy.old are of: $seen"
if [ "$seen" != "second first" ]; then
  echo "CHANGED: modules of two checkouts are no longer mixed" >&2
  exit 1
fi
