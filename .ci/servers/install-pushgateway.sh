#!/usr/bin/env bash
# Prometheus' Pushgateway 1.11.3, built from the Go module proxy with the locked versions in `pushgateway`, beside this script.
# `netgo` and CGO_ENABLED=0 leave out the C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=1.11.3
folder=$PWD/target/servers/pushgateway-$version

reported() { local all; all=$("$folder/pushgateway" --version 2>&1) || true; echo "${all%%$'\n'*}"; }

installed() { [[ $(reported) == "pushgateway, version $version "* ]]; }

if ! installed; then
  command -v go >/dev/null || { echo "install-pushgateway: go is missing: install Go 1.26 or newer" >&2; exit 1; }
  mkdir -p "$folder"
  export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
  cd .ci/servers/pushgateway
  grep -qF "github.com/prometheus/pushgateway v$version" go.mod ||
    { echo "install-pushgateway: go.mod does not require v$version: bring go.mod and this script in step" >&2; exit 1; }
  go build -mod=readonly -tags netgo -trimpath \
    -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" \
    -o "$folder/" github.com/prometheus/pushgateway
  installed || { echo "install-pushgateway: $folder/pushgateway reports '$(reported)', wanted version $version" >&2; exit 1; }
fi

reported
