"""The container image, without a container engine: its files, and the gateway at work among them."""

import fnmatch
import json
import os
import re
import shutil
import stat
import subprocess
import tomllib

import pytest
from api import Api
from chart import TOP
from client import Client
from harness import CONFIG, FANFARE, Gateway, token

ROOTFS = TOP / "deploy" / "image" / "rootfs.sh"
DOCKERFILE = (TOP / "Dockerfile").read_text()
USER = 65532
# As Kubernetes starts it: the configuration is mounted, the root is read-only, the user is the image's.
CONTAINER = """
mount --bind "$0" "$0" && mount --bind "$1" "$0/etc/fanfare/config" && mount -o remount,bind,ro "$0" &&
shift && exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups=65532 "$0" "$@"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("image") / "root"
    subprocess.run([ROOTFS, FANFARE, root], check=True, timeout=60)
    yield root
    shutil.rmtree(root)


class Container(Gateway):
    """The image's entry point with the image's arguments, in the image's root."""

    def __init__(self, directory, root):
        super().__init__(directory, "container")
        self.root, self.mounted = root, self.directory / "config"
        self.mounted.mkdir()
        shutil.copy(CONFIG, self.mounted / "fanfare.toml")
        (root / "etc/fanfare/config").mkdir(parents=True, exist_ok=True)

    def command(self):
        entry = [*instruction("ENTRYPOINT"), *instruction("CMD")]
        arguments = ["--listen", self.public, "--admin-listen", self.admin]
        namespace = ["unshare", "--mount", "--propagation=private", "sh", "-c", CONTAINER]
        return [*namespace, self.root, self.mounted, *entry, *arguments]

    def environment(self):
        return {"FANFARE_CONFIG": "/etc/fanfare/config/fanfare.toml"}


def instruction(name):
    """The JSON of the last one."""
    return json.loads(re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[-1])


def files(root):
    return [path for path in root.rglob("*") if not path.is_dir()]


def test_only_what_the_binary_needs_is_in_it(root):
    found = {str(path.relative_to(root)) for path in files(root)}
    libraries = {path for path in found if re.match(r"lib(64)?/", path)}
    notes = {path for path in found if path.startswith("var/lib/dpkg/status.d/")}
    assert found - libraries - notes == {
        "usr/bin/fanfare", "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "etc/group", "etc/nsswitch.conf"}
    assert {re.sub(r".*/|[-.].*", "", path) for path in libraries} == {"libc", "libm", "libgcc_s", "ld"}
    assert {"var/lib/dpkg/status.d/libc6", "var/lib/dpkg/status.d/ca-certificates"} <= notes or not shutil.which("dpkg-query")


def test_nobody_can_change_it_or_gain_by_it(root):
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH | stat.S_IWGRP), path
    assert f"fanfare:x:{USER}:{USER}:" in (root / "etc/passwd").read_text()


@pytest.fixture
def container(root, tmp_path):
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("THE GATEWAY WAS NOT STARTED FROM THE IMAGE'S ROOT: THAT TAKES ROOT AND A MOUNT NAMESPACE")
    container = Container(tmp_path, root).start()
    yield container
    container.kill()


def test_a_gateway_works_in_it(container):
    with Client(container.websocket_url, token("ann")) as ann:
        ann.ask("subscribe", channel="venue:image")
        Api(container).publish(channel="venue:image", data="hi")
        assert ann.expect("message", channel="venue:image")["data"] == "hi"
    assert container.stop() == 0


def test_it_has_no_rights(container):
    process = f"/proc/{container.child.pid}"
    with open(f"{process}/status") as status:
        status = dict(line.rstrip().split(":\t", 1) for line in status)
    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
    with open(f"{process}/mountinfo") as mounts:
        own = [fields for line in mounts if (fields := line.split())[4] == "/"]
    assert own and all("ro" in fields[5].split(",") for fields in own)


def test_the_dockerfile_is_careful():
    toolchain = tomllib.loads((TOP / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"ARG RUST_VERSION={toolchain}\n" in DOCKERFILE
    lines = [line.strip() for line in DOCKERFILE.splitlines()]
    bases = [line.split(" AS ")[0].split()[-1] for line in lines if line.startswith("FROM ")]
    assert bases == ["rust:${RUST_VERSION}-slim-${DEBIAN}", "scratch"]
    last = lines[lines.index("FROM scratch"):]
    assert f"USER {USER}:{USER}" in last and "COPY --from=build /rootfs/ /" in last
    assert not [line for line in lines if line.startswith(("ADD ", "HEALTHCHECK", "VOLUME")) or ":latest" in line]
    # What the tests start from is what the build makes.
    assert '"$(dirname "$0")/rootfs.sh" "target/$target/release/fanfare" /rootfs' in (ROOTFS.parent / "build.sh").read_text()


def test_the_context_has_what_is_compiled_and_no_more():
    ignored = (TOP / ".dockerignore").read_text().splitlines()
    assert ignored[[line.startswith("#") for line in ignored].index(False)] == "*"
    members = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["members"]
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for wanted in ["Cargo.toml", "Cargo.lock", *members]:
        assert any(fnmatch.fnmatch(wanted, pattern) for pattern in let_in), wanted
    assert not any(fnmatch.fnmatch(secret, pattern) for secret in (".git", ".env", "e2e", "charts") for pattern in let_in)
