#!/usr/bin/env bash
# statsd_exporter 0.31.0 from the Go module proxy. CGO_ENABLED=0 leaves out the C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.31.0
folder=$PWD/target/servers/statsd-exporter-$version

# A program that `go install` built carries the version of its module; what it prints of itself comes from the
# flags of a release.
reported() { go version -m "$folder/statsd_exporter" 2>/dev/null | awk '$1 == "mod" { print $3 }'; }

command -v go >/dev/null || { echo "install-statsd-exporter: go is missing: install Go 1.26 or newer" >&2; exit 1; }
if [ "$(reported)" != "v$version" ]; then
  mkdir -p "$folder"
  export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
  GOBIN=$folder go install -trimpath -ldflags "-s -w" "github.com/prometheus/statsd_exporter@v$version"
  [ "$(reported)" = "v$version" ] ||
    { echo "install-statsd-exporter: $folder/statsd_exporter is of version '$(reported)', wanted v$version" >&2; exit 1; }
fi

echo "statsd_exporter $(reported)"
