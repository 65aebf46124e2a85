#!/usr/bin/env bash
# See to it that PostgreSQL's programs are here for the store's tests: those of the machine, else Debian's package when we
# are root. The tests start a server of their own in a folder of their own. Never fails: without the programs those tests
# are skipped, and say so.
set -uo pipefail

say() { printf 'postgres: %s\n' "$*" >&2; }
here() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

debian_package() {
  [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 1
  say "no PostgreSQL here; installing Debian's package (about half a minute)"
  export DEBIAN_FRONTEND=noninteractive
  local settings=/etc/postgresql-common/createcluster.conf
  # The package would make and start a cluster of the machine's own, which nobody asked for.
  [[ -e $settings ]] || { mkdir -p "${settings%/*}" && echo 'create_main_cluster = false' >"$settings"; }
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null 2>&1 </dev/null && here
}

here || debian_package || say "no PostgreSQL can be had: the store's tests on it will be SKIPPED"
exit 0
