#!/usr/bin/env bash
# The parser of Prometheus as a small program, from `.ci/parser`. Run after install-prometheus.sh it
# finds everything compiled and takes a second. The compiler itself decides whether there is work to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

program=$PWD/target/servers/textparse

command -v go >/dev/null || { echo "install-textparse: go is missing: install Go 1.26 or newer" >&2; exit 1; }
mkdir -p target/servers
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
(cd .ci/parser && go build -mod=readonly -trimpath -ldflags "-s -w" -o "$program" .)
printf '# TYPE probe gauge\nprobe 1.0\n# EOF\n' | "$program" 'application/openmetrics-text; version=1.0.0' >/dev/null ||
  { echo "install-textparse: target/servers/textparse does not read a valid exposition" >&2; exit 1; }

echo "textparse of $(grep -oE 'github.com/prometheus/prometheus v[0-9.]+' .ci/parser/go.mod)"
