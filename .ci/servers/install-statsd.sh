#!/usr/bin/env bash
# Etsy's StatsD 0.9.0, the daemon that the protocol is named after, from npm with the locked versions in `statsd`, beside
# this script. Its optional packages are for backends and systems that the tests do not use, and one of them needs a C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.9.0
locked=.ci/servers/statsd
folder=target/servers/statsd-$version

reported() { node -p 'require(process.argv[1]).version' "./$folder/node_modules/statsd/package.json" 2>/dev/null || true; }

# The lock lies beside what was installed from it, so that another lock is a reason to install again.
installed() {
  [ "$(reported)" = "$version" ] && cmp -s "$locked/package-lock.json" "$folder/package-lock.json"
}

if ! installed; then
  command -v node >/dev/null && command -v npm >/dev/null ||
    { echo "install-statsd: node or npm is missing: install Node.js 18 or newer" >&2; exit 1; }
  grep -qF "\"statsd\": \"$version\"" "$locked/package-lock.json" ||
    { echo "install-statsd: package-lock.json does not require statsd $version: bring it and this script in step" >&2; exit 1; }
  mkdir -p "$folder"
  cp "$locked/package.json" "$locked/package-lock.json" "$folder/"
  # Quiet only while all is well: what is said of a failure stays.
  (cd "$folder" && npm ci --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error) ||
    { echo "install-statsd: npm cannot install statsd $version (above: why)" >&2; rm -f "$folder/package-lock.json"; exit 1; }
  installed || { echo "install-statsd: $folder holds statsd '$(reported)', wanted version $version" >&2; exit 1; }
fi

echo "statsd $(reported), node $(node --version)"
