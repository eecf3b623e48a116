#!/usr/bin/env bash
# Prometheus and promtool 2.42 as Debian 12 ships them: the oldest server the tests speak with.
#
# The package is only downloaded and unpacked. Installing it would start a service on a fixed port.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=2.42.0
folder=target/servers/prometheus-2.42

first_line() { local all; all=$("$folder/$1" --version 2>&1) || true; echo "${all%%$'\n'*}"; }

installed() {
  [[ $(first_line prometheus) == "prometheus, version $version"[+\ ]* && $(first_line promtool) == "promtool, version $version"[+\ ]* ]]
}

# Package lists that were never fetched, or that are older than the package, make the first download
# fail: only then are they fetched anew. `Sandbox::User` spares a warning that apt gives to root.
download() {
  local get=(apt-get -q -o APT::Sandbox::User=root)
  (cd "$1" && { "${get[@]}" download prometheus || { "${get[@]}" update && "${get[@]}" download prometheus; }; })
}

if ! installed; then
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    { echo "install-prometheus-debian: apt-get and dpkg are missing: this server comes from Debian 12's packages" >&2; exit 1; }
  mkdir -p "$folder"
  unpacked=$(mktemp -d "$folder/unpacked.XXXXXX")
  trap 'rm -rf "$unpacked"' EXIT
  download "$unpacked" ||
    { echo "install-prometheus-debian: apt-get cannot download Debian's package prometheus (above: why)" >&2; exit 1; }
  dpkg -x "$unpacked"/prometheus_*.deb "$unpacked"
  mv -f "$unpacked/usr/bin/prometheus" "$unpacked/usr/bin/promtool" "$folder/"
  installed || {
    echo "install-prometheus-debian: the package holds $(first_line prometheus), wanted version $version of Debian 12" >&2
    exit 1
  }
fi

first_line prometheus
first_line promtool
