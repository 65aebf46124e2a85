#!/usr/bin/env bash
# Put LLaMA-Factory into an environment of its own: scripts/llamafactory.sh [DIR]   (default .llamafactory, where
# `make bench-training` looks for it). It pins other versions of transformers, trl and peft than ours, so it cannot share
# .venv. Prints why and ends with 0 where it cannot be had: the benchmark then goes without it. About 2 GB, some minutes.
set -uo pipefail
cd "$(dirname "$0")/.."

venv="${1:-.llamafactory}"
version="0.9.5"
torch="$(.venv/bin/python -c 'import torch; print(torch.__version__.partition("+")[0])')"
log="$(mktemp)"

say() { printf 'llamafactory: %s\n' "$*"; }
give_up() { say "left out, $*"; tail -n 3 "$log"; rm -rf "$venv"; rm -f "$log"; exit 0; }
inside() { "$venv/bin/python" "$@" >>"$log" 2>&1; }

if [[ "$(cat "$venv/.installed" 2>/dev/null)" == "$version" ]]; then rm -f "$log"; exit 0; fi
began=$SECONDS
say "installing llamafactory $version into $venv (some minutes) …"
.venv/bin/python -m venv --clear "$venv" >>"$log" 2>&1 || give_up "no virtual environment could be made"
inside -m pip --disable-pip-version-check --no-input install --quiet -c scripts/llamafactory-constraints.txt \
  "torch==$torch" "llamafactory==$version" || give_up "pip could not install it"
# For images and sound, and built for another torch than one without CUDA. Nothing here has a sound, but a module of the
# name is imported all the same.
inside -m pip --disable-pip-version-check --no-input uninstall --quiet -y torchvision torchaudio torchcodec
: >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchaudio.py"
inside -c 'from llamafactory.train.tuner import run_exp' || give_up "it does not start here"
echo "$version" >"$venv/.installed"
rm -f "$log"
say "done in $((SECONDS - began)) s"
