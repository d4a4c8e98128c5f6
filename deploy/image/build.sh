#!/usr/bin/env bash
# build.sh prepare|compile: what the Dockerfile's first stage does. TARGETARCH, amd64 or arm64, is
# what is built for; where this machine is another, by a cross compiler instead of emulation.
set -euo pipefail

case $TARGETARCH in
  amd64) gnu=x86_64-linux-gnu target=x86_64-unknown-linux-gnu ;;
  arm64) gnu=aarch64-linux-gnu target=aarch64-unknown-linux-gnu ;;
  *) echo "build.sh: no image for $TARGETARCH" >&2; exit 1 ;;
esac

prepare() {
  local packages=(make binutils ca-certificates)
  if [[ $(dpkg --print-architecture) != "$TARGETARCH" ]]; then
    dpkg --add-architecture "$TARGETARCH"
    packages+=("gcc-${gnu//_/-}" "libc6-dev:$TARGETARCH" "libgcc-s1:$TARGETARCH")
  fi
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends "${packages[@]}"
  rustup target add "$target"
  # Writes into the binary what it was made of: the SBOM's source.
  cargo install --quiet --locked --version "$CARGO_AUDITABLE" cargo-auditable
}

compile() {
  local variable=${target//-/_}
  export "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc" "CC_$variable=$gnu-gcc"
  # Kernels for arm64 have pages of up to 64 KiB, and an allocator made for smaller ones fails there.
  [[ $TARGETARCH != arm64 ]] || export JEMALLOC_SYS_WITH_LG_PAGE=16
  cargo auditable build --release --locked --package gateway --bin fanfare --target "$target"
  "$(dirname "$0")/rootfs.sh" "target/$target/release/fanfare" /rootfs
}

"$1"
