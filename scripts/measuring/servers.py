"""The servers that are measured: how each is built, started and ended."""

import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from measuring.machine import ROOT, require_package, require_tool

PEERS = ROOT / "benches" / "peers"
TARGET = ROOT / "target"
PEERS_TARGET = TARGET / "peers"
# What holds for the channels that are measured.
CHANNELS = ROOT / "scripts" / "measuring" / "channels.toml"
START_SECONDS = 20
# By the environment, as earlier builds, which are compared with, refuse the flag.
ADMIN = {"RINGWIRE_ADMIN": "127.0.0.1:0"}
END_SECONDS = 15


@dataclass(frozen=True)
class Server:
    """A server and how to start it; `{address}`, `{frame}` and `{mode}` are filled in."""

    name: str
    command: tuple
    # Whether it has a route /broadcast.
    broadcasts: bool = False
    # Whether what it answers means nothing, so that contents cannot be checked.
    is_meaningless: bool = False
    # The certificate that it shows, if it speaks TLS.
    certificate: pathlib.Path | None = None
    environment: dict = field(default_factory=dict)
    # Where a workload meets it, unless that says so itself.
    path: str | None = None
    # What the load generator is told about it besides.
    bench_options: tuple = ()

    def fill(self, address, workload):
        """The command for a workload."""
        frame = masked_frame_bytes(workload.size)
        mode = "fan-out" if workload.is_broadcast else "echo"
        return [str(part).format(address=address, frame=frame, mode=mode) for part in self.command]


class Running:
    """A started server: its process and its address; ends with the `with` block."""

    def __init__(self, command, core_list, environment=None):
        self.command = ["taskset", "--cpu-list", core_list, *command]
        self.admin = None
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**plain_environment(), **ADMIN, **(environment or {})}, start_new_session=True)
        try:
            self.url = self.wait_for_url()
        except BaseException:
            self.end()
            raise

    def wait_for_url(self):
        """Reads the line that every server prints when it listens."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not select.select([self.process.stdout], [], [], 0.1)[0]:
                continue
            line = self.process.stdout.readline()
            if line.startswith(("listening on ws://", "listening on wss://")):
                return line.split()[-1].rstrip("/")
            if not line:
                break
        self.end()
        said = self.process.stderr.read().strip()
        raise RuntimeError(f"{' '.join(self.command)} did not start: {said or 'it said nothing'}")

    def admin_address(self):
        """Host and port of the admin listener, which Ringwire tells together with the others."""
        while not self.admin:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(self.command)} has no admin listener")
            if line.startswith("admin on http://"):
                host, port = line.split("//")[1].strip().rstrip("/").rsplit(":", 1)
                self.admin = (host, int(port))
        return self.admin

    @property
    def pid(self):
        # taskset becomes the server: it executes it in its own process.
        return self.process.pid

    def end(self):
        """Asks the server to end, then insists."""
        for sent in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            self.process.send_signal(sent)
            try:
                # A second signal ends a server that would still drain.
                self.process.wait(0.5 if sent == signal.SIGTERM else END_SECONDS)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.process.stdout.close()
        self.process.stderr.close()


def plain_environment():
    """The environment without settings of whoever runs this, which must not reach a server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RINGWIRE_")}


def masked_frame_bytes(payload_bytes):
    """Bytes of a client's frame: RFC 6455 section 5.2."""
    header = 6 if payload_bytes <= 125 else 8 if payload_bytes <= 0xFFFF else 14
    return header + payload_bytes


def ringwire_command(program, *options):
    return (program, "serve", "--listen", "{address}", "--log-level", "warn", *options)


def build_ringwire():
    """Builds server, load generator and floor with the release profile; returns where they are."""
    print("building ringwire and the floor", file=sys.stderr)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "ringwire",
                    "--example", "floor"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TARGET))
    return target / "release" / "ringwire", target / "release" / "examples" / "floor"


def own_servers(ringwire, floor):
    """Our server and the two floors below it."""
    floor_command = (floor, "{mode}", "--listen", "{address}", "--frame", "{frame}")
    return {
        "ringwire": Server("ringwire", ringwire_command(ringwire, "--shards", "1"), True),
        "floor": Server("floor", floor_command, True, is_meaningless=True),
        "floor-received": Server("floor-received", (*floor_command, "--reply", "received"),
                                 is_meaningless=True),
    }


def secured_servers(ringwire, certificate):
    """Our server, Bun, and proxies in front of our server without TLS, all with TLS."""
    bun = peers({"bun"})["bun"]
    flags = ("--shards", "1", "--tls-cert", certificate.certificate, "--tls-key", certificate.key)
    command = ringwire_command(ringwire, *flags)
    secured = tuple("{address},tls" if part == "{address}" else part for part in command)
    environment = {"RINGWIRE_TLS_CERT": str(certificate.certificate),
                   "RINGWIRE_TLS_KEY": str(certificate.key)}
    shown = certificate.certificate
    found = {
        "ringwire-tls": Server("ringwire-tls", secured, True, certificate=shown),
        "bun-tls": Server("bun-tls", bun.command, True, certificate=shown,
                          environment=environment),
    }
    for proxy in ("nginx", "haproxy"):
        require_tool(proxy, proxy)
        name = f"{proxy}-in-front"
        command = (sys.executable, PEERS / "in_front.py", proxy, ringwire, "{address}")
        found[name] = Server(name, command, True, certificate=shown, environment=environment)
    return found


def channel_servers(ringwire):
    """Our server with what is published to a topic, to a channel of which nothing is kept, and to
    one with history whose subscribers have positions."""
    command = ringwire_command(ringwire, "--shards", "1", "--config", CHANNELS)

    def channel(name, channel):
        return Server(name, command, True, path="/connection/websocket",
                      bench_options=("--protocol", "centrifugo", "--channel", channel))

    raw = Server("raw", command, True, bench_options=("--text",))
    found = (raw, channel("channel", "bench"), channel("channel-positions", "kept:bench"))
    return {server.name: server for server in found}


def peers(names):
    """The peers of these names, installed and built below target/peers."""
    found = {}
    if "bun" in names or "ws" in names:
        node = install_node_packages()
        bun = node / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun"
        found["bun"] = Server("bun", (bun, PEERS / "bun.js", "{address}"), True)
        package = {"RINGWIRE_WS_PACKAGE": str(node / "node_modules" / "ws"),
                   "NODE_ENV": "production"}
        found["ws"] = Server("ws", ("node", PEERS / "ws.js", "{address}"), True,
                             environment=package)
    if "websockets" in names:
        python = install_python_packages()
        server = PEERS / "websockets_server.py"
        found["websockets"] = Server("websockets", (python, server, "{address}"), True)
    if "gorilla" in names:
        found["gorilla"] = Server("gorilla", (build_go_peer(), "{address}"))
    if names & RUST_PEERS.keys():
        build_rust_peers()
    for name, program in RUST_PEERS.items():
        path = PEERS_TARGET / "release" / program
        found[name] = Server(name, (path, "{address}"))
    return {name: found[name] for name in ALL_PEERS if name in names}


def install_node_packages():
    """npm packages at the committed versions; no script of theirs is run."""
    node = PEERS_TARGET / "node"
    lock = PEERS / "package-lock.json"
    installed = node / "installed-lock.json"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        print("installing bun and ws", file=sys.stderr)
        node.mkdir(parents=True, exist_ok=True)
        for source in (PEERS / "package.json", lock):
            shutil.copy(source, node)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
                       cwd=node, check=True)
        shutil.copy(lock, installed)
    return node


def install_python_packages():
    """PyPI packages at the committed versions in an environment of their own."""
    home = PEERS_TARGET / "python"
    wanted = PEERS / "requirements.txt"
    installed = home / "installed.txt"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        print("installing websockets", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--requirement", wanted], check=True)
        shutil.copy(wanted, installed)
    return home / "bin" / "python"


def build_go_peer():
    """A program in Go with the library that Debian packages; no module is fetched."""
    require_tool("go", "golang-go")
    require_package("golang-github-gorilla-websocket-dev")
    program = PEERS_TARGET / "gorilla"
    subprocess.run(["go", "build", "-o", program, PEERS / "gorilla.go"], check=True,
                   env={**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
                        "GOCACHE": str(PEERS_TARGET / "go-cache")})
    return program


def build_rust_peers():
    print("building the peers in Rust", file=sys.stderr)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet",
                    "--target-dir", PEERS_TARGET], cwd=PEERS, check=True)


# Names as people know them, and the programs of benches/peers.
RUST_PEERS = {
    "fastwebsockets": "fastwebsockets",
    "tokio-tungstenite": "tokio_tungstenite",
    "sockudo-ws": "sockudo_ws",
    "tokio-uring": "tokio_uring",
}
ALL_PEERS = ("bun", "ws", *RUST_PEERS, "gorilla", "websockets")
