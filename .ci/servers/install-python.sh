#!/usr/bin/env bash
# The official Python client, whose two parsers read what this crate writes, in an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.26.0
folder=target/servers/python

installed() {
  [ -x "$folder/bin/python" ] && [ "$("$folder/bin/python" -c 'from importlib import metadata; print(metadata.version("prometheus_client"))' 2>/dev/null)" = "$version" ]
}

if ! installed; then
  command -v python3 >/dev/null || { echo "install-python: python3 is missing: install Python 3.9 or newer with its venv module" >&2; exit 1; }
  python3 -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps "prometheus_client==$version" ||
    { echo "install-python: pip cannot install prometheus_client $version (above: why)" >&2; exit 1; }
  installed || { echo "install-python: prometheus_client $version cannot be imported from $folder" >&2; exit 1; }
fi

"$folder/bin/python" --version
echo "prometheus_client $version"
