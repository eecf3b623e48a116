#!/usr/bin/env bash
# The official clients of DogStatsD, whose bytes are compared with what this crate writes: a small Go program from
# `datadog`, beside this script, and the Python client in an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

go_version=v5.9.1
python_version=0.56.0
sources=$PWD/.ci/servers/datadog
folder=$PWD/target/servers/datadog

command -v go >/dev/null || { echo "install-datadog-clients: go is missing: install Go 1.26 or newer" >&2; exit 1; }
mkdir -p "$folder"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
grep -qF "github.com/DataDog/datadog-go/v5 $go_version" "$sources/go.mod" ||
  { echo "install-datadog-clients: go.mod does not require $go_version: bring go.mod and this script in step" >&2; exit 1; }
# The compiler itself decides whether there is work to do.
(cd "$sources" && go build -mod=readonly -trimpath -ldflags "-s -w" -o "$folder/golden" .)

reported() { "$folder/python/bin/python" -c 'import datadog; print(datadog.__version__)' 2>/dev/null || true; }

if [ "$(reported)" != "$python_version" ]; then
  command -v python3 >/dev/null ||
    { echo "install-datadog-clients: python3 is missing: install Python 3.9 or newer with its venv module" >&2; exit 1; }
  python3 -m venv --clear "$folder/python"
  # What it depends on is for its other interface, over HTTP.
  "$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "datadog==$python_version" ||
    { echo "install-datadog-clients: pip cannot install datadog $python_version (above: why)" >&2; exit 1; }
  [ "$(reported)" = "$python_version" ] ||
    { echo "install-datadog-clients: $folder/python holds datadog '$(reported)', wanted $python_version" >&2; exit 1; }
fi

echo "datadog-go $go_version"
echo "datadog $(reported), $("$folder/python/bin/python" --version)"
