#!/usr/bin/env bash
# Make or bring up to date the virtual environment: scripts/set_up.sh [DIR]   (default .venv; `make` calls this)
#
# Needs nothing but a Python of 3.11 or newer. Steps that are already done are skipped, so a second run costs nothing.
# PYTHON=/path/to/python chooses the interpreter; pip's own settings (index, proxy, cache) are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${1:-.venv}"
torch_pin="torch==2.13.0" # by version, without a hash: its wheel differs by machine (CPU, CUDA); see scripts/lock.py
oldest="3.11"

say() { printf 'set-up: %s\n' "$*"; }
fail() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# A command may exist and not run (a version manager's shim), so each candidate is asked, not looked up.
new_enough() {
  "$1" -c "import sys; sys.exit(not sys.version_info >= tuple(map(int, '$oldest'.split('.'))))" >/dev/null 2>&1
}
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if new_enough "$candidate" && has_venv "$candidate"; then echo "$candidate"; return; fi
  done
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if new_enough "$candidate"; then echo "without-venv:$candidate"; return; fi
  done
}

require_python() {
  local found
  found="$(find_python)"
  if [[ "$found" == without-venv:* && "$(id -u)" == 0 && -x "$(command -v apt-get)" ]]; then
    say "Python has no venv module; installing Debian's python3-venv" >&2
    apt-get update -qq >&2 </dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >&2 </dev/null
    found="$(find_python)"
  fi
  case "$found" in
    "") fail "no Python of $oldest or newer was found among: ${PYTHON:-python3.13 python3.12 python3.11 python3 python}." \
          "Install one, or name it: make PYTHON=/path/to/python up" ;;
    without-venv:*) fail "${found#*:} has no venv module. Install it (Debian: apt-get install python3-venv) and try again." ;;
  esac
  echo "$found"
}

# step NUMBER "what" COMMAND…: run it, say how long it took. Its output is shown when it fails; that of the downloads (2
# and 3) also as it goes, on a terminal, for their progress bars.
step() {
  local number="$1" what="$2" began=$SECONDS log
  shift 2
  say "[$number/4] $what …"
  if [[ -t 1 && $number == [23] ]]; then
    "$@"
  else
    log="$(mktemp)"
    if ! "$@" >"$log" 2>&1 </dev/null; then cat "$log" >&2; rm -f "$log"; fail "[$number/4] failed: $*"; fi
    rm -f "$log"
  fi
  say "[$number/4] done in $((SECONDS - began)) s"
}

digest() { "$venv/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

if [[ ! -x "$venv/bin/python" ]]; then
  python="$(require_python)"
  step 1 "virtual environment in $venv with $("$python" -V) (about 10 s)" "$python" -m venv --clear "$venv"
elif ! new_enough "$venv/bin/python"; then
  fail "$venv holds $("$venv/bin/python" -V 2>&1), wanted $oldest or newer: remove it (make clean) and try again."
fi

locked="$({ echo "$torch_pin"; cat requirements.lock; } | digest)"
if [[ "$(cat "$venv/.locked" 2>/dev/null)" != "$locked" ]]; then
  # torch first: it brings its own companions for this machine; the lock then sets everything else to its pinned version.
  step 2 "$torch_pin (the large one: 200 MB without CUDA, some GB with it)" pip install "$torch_pin"
  step 3 "$(grep -c '==' requirements.lock) pinned packages, hashes checked (1–3 minutes)" \
    pip install --no-deps --require-hashes -r requirements.lock
  echo "$locked" >"$venv/.locked"
fi
step 4 "thumbwise itself, as it stands in this folder" pip install --no-deps --no-build-isolation -e .
date -u +%FT%TZ >"$venv/.installed"
say "ready: $venv/bin/thumbwise"
