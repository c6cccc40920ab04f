"""A proxy that ends TLS in front of Ringwire, both on the cores that this process may use.

    in_front.py nginx|haproxy RINGWIRE ADDRESS

The environment names a certificate and its key, as for the other peers with TLS. This process
becomes the proxy, so that its processor time is the proxy's own, without Ringwire's; Ringwire
ends with it.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS = 20
CIPHERSUITE = "TLS_AES_128_GCM_SHA256"

NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
worker_rlimit_nofile 20000;
events {{ worker_connections 9000; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {host}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites {ciphersuite};
    location / {{
      proxy_pass http://{behind};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 9000
  ssl-default-bind-ciphersuites {ciphersuite}
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend front
  bind {host}:{port} ssl crt {directory}/both.pem alpn http/1.1
  default_backend behind
backend behind
  server ringwire {behind}
"""


def main():
    name, ringwire, address = sys.argv[1:]
    host, port = address.split(":")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringwire-"))
    certificate, key = os.environ["RINGWIRE_TLS_CERT"], os.environ["RINGWIRE_TLS_KEY"]
    both = directory / "both.pem"
    both.touch(0o600)
    both.write_text(pathlib.Path(certificate).read_text() + pathlib.Path(key).read_text())
    port = int(port) or free_port(host)
    template = {"nginx": NGINX, "haproxy": HAPROXY}[name]
    file = directory / "conf"
    file.write_text(template.format(
        host=host, port=port, behind=start(ringwire), directory=directory,
        certificate=certificate, key=key, ciphersuite=CIPHERSUITE))
    tell_when_it_listens(host, port)
    command = {"nginx": ["nginx", "-e", "stderr", "-c", file],
               "haproxy": ["haproxy", "-db", "-q", "-f", file]}[name]
    os.execvp(command[0], [str(part) for part in command])


def start(ringwire):
    """Ringwire behind, until this process ends; its address."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("RINGWIRE_TLS_")}
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", ringwire, "serve", "--listen", "127.0.0.1:0",
         "--shards", "1", "--log-level", "warn"],
        stdout=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline()
    if not line.startswith("listening on ws://"):
        sys.exit(f"error: ringwire did not start: {line}")
    return line.split()[-1].removeprefix("ws://").rstrip("/")


def free_port(host):
    with socket.socket() as bound:
        bound.bind((host, 0))
        return bound.getsockname()[1]


def tell_when_it_listens(host, port):
    """A process beside this one says so, as a proxy does not."""
    sys.stdout.flush()
    if os.fork():
        return
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.05)
            continue
        print(f"listening on wss://{host}:{port}/", flush=True)
        break
    os._exit(0)


if __name__ == "__main__":
    main()
