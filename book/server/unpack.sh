#!/usr/bin/env bash
# On a machine without a network: check what pack.sh left, install it, put the data where they are looked for.
# bash unpack.sh PACK ENVIRONMENT              ENVIRONMENT: folder of a new virtual environment
set -eu -o pipefail
pack=$1 environment=$2
(cd "$pack" && sha256sum --check --quiet SHA256SUMS)
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --no-index "$pack"/wheels/*.whl
if [ -d "$pack/data" ]; then
  mkdir -p "$RNASYNTH_DATA"
  cp -r "$pack/data/." "$RNASYNTH_DATA/"
fi
