"""Where results go: a directory for each measurement, and none is ever overwritten."""

import datetime
import json
import shlex

from measuring import machine


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
        with open(self.path / name, "x", encoding="utf-8") as file:
            file.write(text)

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2) + "\n")

    def append_json(self, name, value):
        """Adds a line to a file of JSON objects, so that a measurement cut short keeps its data."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(value, separators=(",", ":")) + "\n")

    def note_command(self, command):
        """Adds an exact command to the list of those that made the results."""
        with open(self.path / "commands.txt", "a", encoding="utf-8") as file:
            file.write(shlex.join(map(str, command)) + "\n")
