#!/usr/bin/env bash
# Make the secrets that compose.apart.yaml hands to its containers: docker/make_secrets.sh [DIR]   (default docker/secrets)
#
# One file each; one that is there is kept. The folder is its owner's alone, which keeps other people of this machine
# out; the files in it may be read by all, because each is mounted by itself into containers that run under other users.
# The tokens of Telegram and Discord are yours to add: telegram_token, discord_token.
set -euo pipefail

folder="${1:-$(dirname "$0")/secrets}"
mkdir -p -m 0700 "$folder"
chmod 0700 "$folder"

random() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME VALUE: write it, whole or not at all, unless it is there.
keep() {
  if [[ -s "$folder/$1" ]]; then return; fi
  printf '%s\n' "$2" >"$folder/.$1"
  chmod 0444 "$folder/.$1"
  mv "$folder/.$1" "$folder/$1"
  printf 'made %s\n' "$1"
}

keep admin_token "$(random)"
keep rater_key "$(random)"
keep vllm_api_key "$(random)"
keep database_password "$(random)"
keep store_url "postgresql://thumbwise:$(cat "$folder/database_password")@database:5432/thumbwise"
