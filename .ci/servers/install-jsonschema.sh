#!/usr/bin/env bash
# The reference validator of JSON Schema in Python, by which lines of CloudWatch's embedded metric format are checked
# (`.ci/emf`), in an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

locked=.ci/emf/requirements.txt
folder=target/servers/jsonschema

# The list lies beside what was installed from it, so that another version is a reason to install again.
installed() {
  cmp -s "$locked" "$folder/requirements.txt" && "$folder/bin/python" -c 'import jsonschema' 2>/dev/null
}

if ! installed; then
  command -v python3 >/dev/null || { echo "install-jsonschema: python3 is missing: install Python 3.10 or newer with its venv module" >&2; exit 1; }
  python3 -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --requirement "$locked" ||
    { echo "install-jsonschema: pip cannot install what $locked names (above: why)" >&2; exit 1; }
  cp "$locked" "$folder/"
  installed || { echo "install-jsonschema: jsonschema cannot be imported from $folder" >&2; exit 1; }
fi

"$folder/bin/python" --version
"$folder/bin/python" -m pip list --disable-pip-version-check 2>/dev/null | grep '^jsonschema '
