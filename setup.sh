# Sourced by run.sh and test.sh: makes sure that an environment with bakeoff in it is active.
# Arguments: the extras to install, such as "dev", or nothing. Uses the active environment if there is one,
# else makes .venv beside this file. Installs only when pyproject.toml or constraints.txt have changed since.

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() { echo "bakeoff: $*" >&2; exit 1; }

find_python() {
  local name
  for name in python3 python python3.14 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "found no Python >= 3.11 with venv and pip; install one, or activate an environment that has it."
}

if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
  if [ ! -x "$here/.venv/bin/python" ]; then
    chosen="$(find_python)" || exit 1
    "$chosen" -m venv "$here/.venv" || fail "could not make $here/.venv"
  fi
  # shellcheck disable=SC1091
  source "$here/.venv/bin/activate"
fi
python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "the active environment has $(python --version); bakeoff needs 3.11 or later."

extras="${1:-}"
stamp="$(python -c 'import sys; print(sys.prefix)')/.bakeoff-installed${extras:+-$extras}"
wanted="$(cat "$here/pyproject.toml" "$here/constraints.txt" | cksum) $here"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "Installing bakeoff and its pinned dependencies (once; PyTorch is large: some minutes, about 5 GB)." >&2
  python -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" -e "$here${extras:+[$extras]}" ||
    fail "the installation failed; the lines above say why. Run the same command again when it is mended."
  echo "$wanted" >"$stamp"
fi
