#!/usr/bin/env bash
# rootfs.sh BINARY DIRECTORY: all files of the image, put together in an empty DIRECTORY. The
# Dockerfile's last stage is a copy of it, and the tests start the binary from it: there is
# nothing else in the image, no shell either.
set -euo pipefail
binary=$1 root=$2
USER_ID=65532

# The libraries that an ELF file asks for and, for a program, its loader: as paths of this system,
# which may have several architectures installed.
needed() {
  local directory
  case $(readelf --file-header "$1" | sed -n 's/ *Machine: *//p') in
    *X86-64) directory=/lib/x86_64-linux-gnu ;;
    AArch64) directory=/lib/aarch64-linux-gnu ;;
    *) echo "rootfs.sh: $1 is for neither amd64 nor arm64" >&2; return 1 ;;
  esac
  readelf --dynamic "$1" | sed -n "s|.*(NEEDED).*\[\(.*\)\]|$directory/\1|p"
  readelf --program-headers "$1" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p'
}

# What it came with tells scanners of vulnerabilities what this file is.
note_package() {
  local package
  package=$(dpkg-query --search "$1" 2>/dev/null | sed -n '1s/: \/.*//p') || true
  [[ $package ]] || return 0
  dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/${package%%:*}"
}

add_libraries() {
  local library libraries
  libraries=$(needed "$1")
  for library in $libraries; do
    [[ -e $root$library ]] && continue
    install -D --mode=755 "$library" "$root$library"
    note_package "$library"
    add_libraries "$library"
  done
}

mkdir -p "$root"/{etc,var/lib/dpkg/status.d}
install -D --mode=755 "$binary" "$root/usr/bin/fanfare"
add_libraries "$binary"

# With these it trusts the servers it calls by TLS.
install -D --mode=644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
note_package /usr/sbin/update-ca-certificates

printf 'fanfare:x:%s:%s:fanfare:/:/nonexistent\n' $USER_ID $USER_ID >"$root/etc/passwd"
printf 'fanfare:x:%s:\n' $USER_ID >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
