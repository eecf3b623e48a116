#!/usr/bin/env bash
# OpenTelemetry Collector 0.162.0 with the few components that the tests use, built from the Go module proxy
# with the locked versions in `collector`, beside this script.
#
# Its builder only writes the sources that name the components. It is not let near the modules: the versions it
# would pick need modules of tests, some of which the proxy does not serve. CGO_ENABLED=0 leaves out the C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.162.0
builder_version=v0.164.0
locked=$PWD/.ci/servers/collector
folder=$PWD/target/servers/collector-$version

reported() { "$folder/otelcol" --version 2>&1 || true; }

# The manifest lies beside a program that was built from it, so that another component is a reason to build again.
installed() {
  [ "$(reported)" = "otelcol version $version" ] && cmp -s "$locked/manifest.yaml" "$folder/manifest.yaml"
}

if ! installed; then
  command -v go >/dev/null || { echo "install-collector: go is missing: install Go 1.26 or newer" >&2; exit 1; }
  for file in go.mod manifest.yaml; do
    grep -qF "go.opentelemetry.io/collector/receiver/otlpreceiver v$version" "$locked/$file" ||
      { echo "install-collector: $file does not require otlpreceiver v$version: bring $file and this script in step" >&2; exit 1; }
  done
  mkdir -p "$folder"
  sources=$(mktemp -d "$folder/sources.XXXXXX")
  trap 'rm -rf "$sources"' EXIT
  export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
  GOBIN=$sources go install -trimpath "go.opentelemetry.io/collector/cmd/builder@$builder_version"
  # It writes where it stands.
  (cd "$sources" && ./builder --config "$locked/manifest.yaml" --skip-compilation --skip-get-modules --skip-strict-versioning)
  cp "$locked/go.mod" "$locked/go.sum" "$sources/"
  (cd "$sources" && go build -mod=readonly -trimpath -ldflags "-s -w" -o "$folder/otelcol" .)
  cp "$locked/manifest.yaml" "$folder/"
  installed || { echo "install-collector: $folder/otelcol reports '$(reported)', wanted version $version" >&2; exit 1; }
fi

reported
