#!/usr/bin/env bash
# Print the path of a Chromium for the browser tests, or nothing: scripts/browser.sh [VENV]
#
# One found on the machine; else Debian's package when we are root; else Playwright's own build. What is being done goes
# to stderr, so that the path alone is the output. Never fails: without a browser those tests are skipped, and say so.
set -uo pipefail

venv="${1:-.venv}"
say() { printf 'browser: %s\n' "$*" >&2; }
works() { [[ -n "$1" ]] && "$1" --version >/dev/null 2>&1 </dev/null; }

on_machine() {
  local name path
  for name in "${THUMBWISE_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    path="$(command -v -- "$name" 2>/dev/null)" && works "$path" && { echo "$path"; return 0; }
  done
  return 1
}

debian_package() {
  [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 1
  say "no Chromium here; installing Debian's package (about a minute)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 </dev/null && on_machine
}

playwrights_own() {
  local path
  path="$("$venv/bin/python" -c 'from playwright.sync_api import sync_playwright as start
with start() as playwright: print(playwright.chromium.executable_path)' 2>/dev/null </dev/null)" || return 1
  if [[ ! -x "$path" ]]; then
    say "no Chromium here; downloading Playwright's own (about 150 MB)"
    "$venv/bin/python" -m playwright install chromium >/dev/null 2>&1 </dev/null || return 1
  fi
  works "$path" && echo "$path"
}

on_machine || debian_package || playwrights_own || say "no Chromium can be had: the browser tests will be SKIPPED"
exit 0
