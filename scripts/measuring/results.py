"""Where results go: a directory for each measurement, and none is ever overwritten."""

import datetime
import json
import pathlib
import re
import shlex
import tempfile

from measuring import machine

# Where this checkout, the temporary directories and the home lie, which concerns nobody else.
PRIVATE_PATHS = re.compile(
    rf"{re.escape(str(machine.ROOT))}/|{re.escape(tempfile.gettempdir())}/(ringwire-[^/\s\"]+/)?|"
    rf"{re.escape(str(pathlib.Path.home()))}/")


class ResultDirectory:
    """A new directory with the raw data of a measurement and what was made of them."""

    def __init__(self, kind, parent=None):
        parent = parent or machine.ROOT / "results"
        base = f"{datetime.date.today()}-{machine.machine_name()}"
        names = [f"{base}-{kind}", *(f"{base}-{kind}-{number}" for number in range(2, 1000))]
        for name in names:
            try:
                (parent / name).mkdir(parents=True)
            except FileExistsError:
                continue
            self.path = parent / name
            break
        else:
            raise SystemExit(f"error: {parent} has too many results of today")

    def write(self, name, text):
        """Writes a new file."""
        self.put(name, text, "x")

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2) + "\n")

    def append_json(self, name, value):
        """Adds a line to a file of JSON objects, so that a measurement cut short keeps its data."""
        self.put(name, json.dumps(value, separators=(",", ":")) + "\n", "a")

    def note_command(self, command):
        """Adds an exact command to the list of those that made the results."""
        self.put("commands.txt", shlex.join(map(str, command)) + "\n", "a")

    def put(self, name, text, mode):
        """Writes with paths that mean something elsewhere: from the root of the project."""
        with open(self.path / name, mode, encoding="utf-8") as file:
            file.write(PRIVATE_PATHS.sub("", text))
