#!/usr/bin/env bash
# A compiler that can check the crate for other systems, for machines where rustup cannot fetch their targets.
#
# A target needs a standard library compiled by the very compiler that uses it. Debian ships a recent
# compiler together with the sources of its standard library, so cargo can build that library itself
# (-Zbuild-std). Both are only unpacked below target/compiler: installing them would displace rustup's.
# Prints the compiler's version; run `target/compiler/rustc` as RUSTC.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$PWD/target/compiler
root=$folder/root

installed() {
  [ -x "$folder/rustc" ] && [ -f "$root/usr/lib/rustlib/src/rust/library/Cargo.lock" ] && "$folder/rustc" --version >/dev/null 2>&1
}

# The packages whose names carry a version are found as dependencies of those whose names do not.
dependency() {
  local found
  found=$(apt-cache depends --no-recommends --no-suggests "$1" | sed -n "s/^ *Depends: \($2\)$/\1/p" | sort -u | tail -n 1)
  [ -n "$found" ] || { echo "install-compiler: $1 depends on no package named like $2: run apt-get update, or see what Debian ships now" >&2; return 1; }
  echo "$found"
}

fetch() {
  local library llvm
  library=$(dependency libstd-rust-web-dev 'libstd-rust-web-[0-9.]*') || return 1
  llvm=$(dependency "$library" 'libllvm[0-9]*') || return 1
  (cd "$1" && apt-get -q -o APT::Sandbox::User=root download rustc-web rust-web-src libstd-rust-web-dev "$library" "$llvm")
}

if ! installed; then
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    { echo "install-compiler: apt-get and dpkg are missing: add the targets with rustup instead" >&2; exit 1; }
  rm -rf "$folder"
  mkdir -p "$root" "$folder/packages"
  fetch "$folder/packages" || { apt-get -q -o APT::Sandbox::User=root update && fetch "$folder/packages"; }
  for package in "$folder"/packages/*.deb; do
    case $package in
      # Of the sources only the standard library: the compiler's own are ten times as large.
      */rust-web-src_*) dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --wildcards './usr/lib/*' './usr/src/*/library/*' ;;
      *) dpkg -x "$package" "$root" ;;
    esac
  done
  rm -r "$folder/packages"
  cat > "$folder/rustc" <<'END'
#!/bin/sh
root=$(dirname "$0")/root/usr
LD_LIBRARY_PATH=$(echo "$root"/lib/*-linux-gnu*) exec "$root/bin/rustc" "$@"
END
  chmod +x "$folder/rustc"
  installed || { "$folder/rustc" --version >&2 || true; echo "install-compiler: the compiler in target/compiler does not start (above: why)" >&2; exit 1; }
fi

"$folder/rustc" --version
