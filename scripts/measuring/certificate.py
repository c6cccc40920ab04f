"""A certificate for this machine, signed by itself, for servers that are measured with TLS."""

import atexit
import pathlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from measuring.machine import require_tool


@dataclass(frozen=True)
class Certificate:
    """Where the certificate and its key are, in PEM."""

    certificate: pathlib.Path
    key: pathlib.Path


def temporary():
    """ECDSA P-256 for 127.0.0.1, in files that are removed when the program ends."""
    require_tool("openssl", "openssl")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ringwire-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE",
         "-keyout", made.key, "-out", made.certificate], check=True, stderr=subprocess.DEVNULL)
    return made
