#!/usr/bin/env bash
# Telegraf 1.39.0 with the few plugins that the tests use, built from the Go module proxy with the locked versions in
# `telegraf`, beside this script. The tag `custom` leaves out every plugin that no other tag names; `netgo` and
# CGO_ENABLED=0 leave out the C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=1.39.0
tags="netgo custom inputs.statsd outputs.file serializers.json"
folder=$PWD/target/servers/telegraf-$version

reported() { "$folder/telegraf" --version 2>&1 || true; }

# The tags lie beside a program that was built with them, so that another plugin is a reason to build again.
installed() {
  [[ $(reported) == "Telegraf $version"* ]] && [ "$(cat "$folder/tags" 2>/dev/null)" = "$tags" ]
}

if ! installed; then
  command -v go >/dev/null || { echo "install-telegraf: go is missing: install Go 1.26 or newer" >&2; exit 1; }
  mkdir -p "$folder"
  export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
  cd .ci/servers/telegraf
  grep -qF "github.com/influxdata/telegraf v$version" go.mod ||
    { echo "install-telegraf: go.mod does not require v$version: bring go.mod and this script in step" >&2; exit 1; }
  go build -mod=readonly -tags "$tags" -trimpath \
    -ldflags "-s -w -X github.com/influxdata/telegraf/internal.Version=$version" \
    -o "$folder/" github.com/influxdata/telegraf/cmd/telegraf
  echo "$tags" >"$folder/tags"
  installed || { echo "install-telegraf: $folder/telegraf reports '$(reported)', wanted version $version" >&2; exit 1; }
fi

reported
