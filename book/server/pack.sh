#!/usr/bin/env bash
# On a machine with a network: all that a machine without one needs, in one folder.
# bash book/server/pack.sh PACK COHORT...      from the checkout, on the server's kind of system and Python
set -eu -o pipefail
pack=$1
shift
mkdir -p "$pack"
"${PYTHON:-python}" -m pip wheel --quiet --wheel-dir "$pack/wheels" --constraint constraints.txt "${PROJECT:-.}"
for cohort in "$@"; do
  rnasynth fetch "$cohort" --to "$pack/data/$(basename "${cohort%.yaml}")"
done
(cd "$pack" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum) >"$pack.sums"
mv "$pack.sums" "$pack/SHA256SUMS"
