"""Run the Autobahn fuzzing client against a WebSocket server, or a WebSocket client against the
fuzzing server, and compare every verdict.

A case has two verdicts, `behavior` and `behaviorClose`; both must be exactly those of the expected
file. The suite writes its reports only at its end, so each class of cases is a run of
its own: one hang loses one class, and is bounded by --class-timeout-seconds.
Exit status: 0 every verdict is the expected one, 1 some are not, 2 the suite could not run.
"""

import argparse
import fnmatch
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

LIST_CASES = """
import json
from autobahntestsuite.case import Cases, CaseBasename, CaseCategories, CaseSetname, \\
    CaseSubCategories
from autobahntestsuite.caseset import CaseSet
cases = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
print(json.dumps(cases.parseSpecCases({"cases": ["*"], "exclude-cases": []})))
"""
# The suite's own server listens on every interface of the machine.
SERVE_CASES = """
import json, sys
from autobahn.twisted.websocket import listenWS
from autobahntestsuite.fuzzing import FuzzingServerFactory
from twisted.internet import reactor
listenWS(FuzzingServerFactory(json.load(open(sys.argv[1]))), interface="127.0.0.1")
reactor.run()
"""
AGENT = "ringwire"
NOT_RUN = {"behavior": "NOT RUN", "behaviorClose": "NOT RUN"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", required=True, help="directory that tests/autobahn/install made")
    parser.add_argument("--expected", required=True, help="JSON file: case -> its two verdicts")
    parser.add_argument("--reports", required=True, help="directory for the HTML and JSON reports")
    tested = parser.add_mutually_exclusive_group(required=True)
    tested.add_argument("--url", help="echo route of the server to test")
    tested.add_argument("--client", help="program to test; its arguments are a URL and a name")
    parser.add_argument("--cases", default="*", help="patterns, comma separated (default *)")
    parser.add_argument("--class-timeout-seconds", type=float, default=600)
    return parser.parse_args()


def number(case):
    return [int(part) for part in case.split(".")]


def select(arguments, expected):
    """The cases to run, by class."""
    listing = subprocess.run(
        [os.path.join(arguments.suite, "bin", "python2.7"), "-c", LIST_CASES],
        capture_output=True, text=True, check=True)
    known = json.loads(listing.stdout)
    if set(expected) != set(known):
        difference = sorted(set(expected) ^ set(known), key=number)
        sys.exit("autobahn: suite and expectations differ in %s" % ", ".join(difference))
    patterns = arguments.cases.split(",")
    classes = {}
    for case in sorted(expected, key=number):
        if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns):
            # The classes of compression are large: each way to compress is a run.
            name = case.split(".")[0]
            classes.setdefault(case.rsplit(".", 1)[0] if name in ("12", "13") else name, []) \
                .append(case)
    return classes


def run_class(arguments, name, cases):
    """The verdicts of one class; a case without a verdict is missing from them."""
    reports = os.path.join(os.path.abspath(arguments.reports), "class-" + name)
    shutil.rmtree(reports, ignore_errors=True)
    os.makedirs(reports)
    if arguments.client:
        test_client(arguments, name, cases, reports)
    else:
        test_server(arguments, name, cases, reports)
    try:
        with open(os.path.join(reports, "index.json")) as file:
            return json.load(file).get(AGENT, {})
    except (OSError, ValueError):
        return {}


def test_server(arguments, name, cases, reports):
    """Runs the fuzzing client to its end."""
    servers = [{"agent": AGENT, "url": arguments.url}]
    specification = specify(reports, cases, {"servers": servers})
    wstest = os.path.abspath(os.path.join(arguments.suite, "bin", "wstest"))
    command = [wstest, "--mode", "fuzzingclient", "--spec", specification]
    run_to_end(arguments, name, command, reports, "wstest.log")


def test_client(arguments, name, cases, reports):
    """Runs the client under test to its end against the fuzzing server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    url = "ws://%s:%d" % address
    specification = specify(reports, cases, {"url": url})
    python = os.path.abspath(os.path.join(arguments.suite, "bin", "python2.7"))
    with open(os.path.join(reports, "server.log"), "w") as log:
        server = subprocess.Popen([python, "-c", SERVE_CASES, specification], cwd=reports,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            if not listens(server, address):
                print("autobahn: the fuzzing server does not start, see %s" % log.name)
                return
            command = [os.path.abspath(arguments.client), url, AGENT]
            run_to_end(arguments, name, command, reports, "client.log")
        finally:
            server.kill()
            server.wait()


def listens(server, address):
    """Waits until a server takes connections; false when it ends or takes more than 20 s."""
    for _ in range(200):
        if server.poll() is not None:
            return False
        try:
            socket.create_connection(address, 1).close()
            return True
        except OSError:
            time.sleep(0.1)
    return False


def specify(reports, cases, more):
    """Writes what the suite is to do; returns the path."""
    specification = os.path.join(reports, "specification.json")
    with open(specification, "w") as file:
        json.dump({"outdir": reports, "cases": cases, "exclude-cases": [],
                   "exclude-agent-cases": {}, **more}, file)
    return specification


def run_to_end(arguments, name, command, reports, log):
    """Runs a program until it ends or takes too long."""
    with open(os.path.join(reports, log), "w") as log:
        client = subprocess.Popen(command, cwd=reports, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=subprocess.STDOUT)
        try:
            status = client.wait(arguments.class_timeout_seconds)
            if status != 0:
                print("autobahn: %s ended with status %d, see %s"
                      % (os.path.basename(command[0]), status, log.name))
        except subprocess.TimeoutExpired:
            print("autobahn: class %s was ended after %g s, see %s"
                  % (name, arguments.class_timeout_seconds, log.name))
        finally:
            if client.poll() is None:
                client.kill()
                client.wait()


def show(verdict):
    if verdict["behavior"] == verdict["behaviorClose"]:
        return verdict["behavior"]
    return "%s, close %s" % (verdict["behavior"], verdict["behaviorClose"])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    arguments = parse_arguments()
    with open(arguments.expected) as file:
        expected = json.load(file)
    classes = select(arguments, expected)
    if not classes:
        sys.exit("autobahn: no case matches %s" % arguments.cases)
    differences, same = [], 0
    for name, cases in classes.items():
        begin = time.monotonic()
        verdicts = run_class(arguments, name, cases)
        failures = 0
        for case in cases:
            verdict = verdicts.get(case, NOT_RUN)
            verdict = {key: verdict[key] for key in NOT_RUN}
            if verdict == expected[case]:
                same += 1
            else:
                failures += 1
                differences.append((case, show(expected[case]), show(verdict)))
        print("autobahn: class %-4s %4d cases, %d not as expected, %.0f s"
              % (name, len(cases), failures, time.monotonic() - begin), flush=True)
    if differences:
        print("\n%-10s %-16s %s" % ("case", "expected", "verdict"))
        for row in differences:
            print("%-10s %-16s %s" % row)
        print("\nReports: %s" % arguments.reports)
    print("autobahn: %d verdicts as expected, %d not" % (same, len(differences)))
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
