# shellcheck shell=bash
# Shared by the scripts in this directory and by e2e/autobahn/run.sh: to be sourced.
# Also moves to the top of the tree and puts .tools/bin first.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
TOP=$PWD
TOOLS=$TOP/.tools
export PATH=$TOOLS/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null; }

# free_ports N: N different ports that are free now, on one line.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

# wait_ready NAME PID LOG CHECK...: until CHECK succeeds; fails if PID ends first or after 20 s.
wait_ready() {
  local name=$1 pid=$2 log=$3 deadline=$((SECONDS + 20))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$log" >&2
      die "$name ended before it was ready; its log is $log"
    fi
    if ((SECONDS > deadline)); then
      tail -n 20 "$log" >&2
      die "$name was not ready within 20 s; its log is $log"
    fi
    sleep 0.1
  done
}

# http_ok URL: succeeds when URL answers 200.
http_ok() {
  python3 -c 'import sys, urllib.request as r; sys.exit(r.urlopen(sys.argv[1], timeout=2).status != 200)' "$1"
}

# port_open PORT: succeeds when something listens there.
port_open() { (: <"/dev/tcp/127.0.0.1/$1"); }

# with_python2 COMMAND...: with the libraries of the Python 2.7 that tools.sh unpacked, if it had to.
with_python2() {
  local libraries=("$TOOLS"/bullseye/usr/lib/*-linux-gnu)
  LD_LIBRARY_PATH=${libraries[0]} "$@"
}
