#!/usr/bin/env bash
# Prometheus and promtool 3.15.0, built from the Go module proxy with the locked versions beside this script.
#
# The version is fixed because the proxy does not serve every version of every dependency. The tag
# `remove_all_sd` leaves out service discovery for the clouds, which the tests do not use and which
# triples the time of the build; `netgo` and CGO_ENABLED=0 leave out the C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=3.15.0
module_version=v0.315.0
folder=$PWD/target/servers/prometheus-$version

first_line() { local all; all=$("$folder/$1" --version 2>&1) || true; echo "${all%%$'\n'*}"; }

installed() {
  [[ $(first_line prometheus) == "prometheus, version $version"[+\ ]* && $(first_line promtool) == "promtool, version $version"[+\ ]* ]]
}

if ! installed; then
  command -v go >/dev/null || { echo "install-prometheus: go is missing: install Go 1.26 or newer" >&2; exit 1; }
  mkdir -p "$folder"
  export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
  cd .ci/servers/prometheus
  grep -qF "github.com/prometheus/prometheus $module_version" go.mod ||
    { echo "install-prometheus: go.mod does not require $module_version: bring go.mod and this script in step" >&2; exit 1; }
  go build -mod=readonly -tags "remove_all_sd netgo" -trimpath \
    -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
    -o "$folder/" github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool
  installed || { echo "install-prometheus: the programs in target/servers/prometheus-$version do not report version $version" >&2; exit 1; }
fi

first_line prometheus
first_line promtool
