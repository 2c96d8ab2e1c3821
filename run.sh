#!/usr/bin/env bash
# Set up, then train.
#   bash run.sh                                          the quick start: resnet_20 on handwritten digits, a minute
#   bash run.sh MODEL [epochs [batch [lr [run_name]]]]   MODEL on CIFAR-100
set -euo pipefail

if [ $# -gt 5 ] || { [ $# -gt 0 ] && [[ -z "$1" || "$1" == -* ]]; }; then
  echo "usage: bash run.sh [MODEL [epochs [batch [lr [run_name]]]]]     (bakeoff train --help for more)" >&2
  exit 2
fi

# shellcheck source=setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""

if [ $# -eq 0 ]; then
  exec bakeoff train resnet_20 --recipe digits
fi
arguments=("$1")
[ -n "${2:-}" ] && arguments+=("epochs=$2")
[ -n "${3:-}" ] && arguments+=("batch_size=$3")
[ -n "${4:-}" ] && arguments+=("lr=$4")
[ -n "${5:-}" ] && arguments+=(--name "$5")
exec bakeoff train "${arguments[@]}"
