#!/usr/bin/env bash
# Set up, then train every network of the first course project's table and report: the study `architectures`.
#   bash run_all_models.sh [epochs [batch [lr]]]      all networks alike; without arguments each by its own card
# Called again with the same arguments it goes on where it stopped.
set -euo pipefail

if [ $# -gt 3 ] || [[ "${1:-}" == -* ]]; then
  echo "usage: bash run_all_models.sh [epochs [batch [lr]]]     (bakeoff study run --help for more)" >&2
  exit 2
fi

# shellcheck source=setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""

arguments=(architectures)
[ -n "${1:-}" ] && arguments+=("epochs=$1")
[ -n "${2:-}" ] && arguments+=("batch_size=$2")
[ -n "${3:-}" ] && arguments+=("lr=$3")
exec bakeoff study run "${arguments[@]}"
