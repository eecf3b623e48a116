#!/usr/bin/env bash
# collectd 5.12 as Debian 12 ships it, with the few plugins that the tests use.
#
# The package is only downloaded and unpacked. Installing it would start a service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=5.12.0
folder=target/servers/collectd-$version

# It has no flag that prints its version alone: that ends the help.
reported() { local all; all=$("$folder/sbin/collectd" -h 2>&1) || true; grep -oE '^collectd [0-9.]+' <<<"$all" || true; }

installed() {
  [[ $(reported) == "collectd $version"?(.) ]] && [ -e "$folder/lib/csv.so" ] && [ -e "$folder/types.db" ]
}

# Package lists that were never fetched, or that are older than the package, make the first download
# fail: only then are they fetched anew. `Sandbox::User` spares a warning that apt gives to root.
download() {
  local get=(apt-get -q -o APT::Sandbox::User=root)
  (cd "$1" && { "${get[@]}" download collectd-core || { "${get[@]}" update && "${get[@]}" download collectd-core; }; })
}

if ! installed; then
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    { echo "install-collectd: apt-get and dpkg are missing: this server comes from Debian 12's packages" >&2; exit 1; }
  mkdir -p "$folder/sbin" "$folder/lib"
  unpacked=$(mktemp -d "$folder/unpacked.XXXXXX")
  trap 'rm -rf "$unpacked"' EXIT
  download "$unpacked" ||
    { echo "install-collectd: apt-get cannot download Debian's package collectd-core (above: why)" >&2; exit 1; }
  dpkg -x "$unpacked"/collectd-core_*.deb "$unpacked"
  mv -f "$unpacked/usr/sbin/collectd" "$folder/sbin/"
  mv -f "$unpacked"/usr/lib/collectd/{statsd,csv,logfile}.so "$folder/lib/"
  mv -f "$unpacked/usr/share/collectd/types.db" "$folder/"
  installed || { echo "install-collectd: the package holds '$(reported)', wanted version $version of Debian 12" >&2; exit 1; }
fi

reported
