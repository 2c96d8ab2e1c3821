#!/usr/bin/env bash
# Set up, then check everything: format, lint, types, layers, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# shellcheck source=setup.sh
source ./setup.sh dev

if [ -z "${BAKEOFF_DATA:-}" ] && [ -d ../shared/data ]; then
  BAKEOFF_DATA="$(cd ../shared/data && pwd)"
  export BAKEOFF_DATA
fi
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 # two test processes with two threads each would fight for the cores

ruff format --check .
ruff check .
mypy
lint-imports
pytest -n "${BAKEOFF_TEST_PROCESSES:-2}" "$@"
