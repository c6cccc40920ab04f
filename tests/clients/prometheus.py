"""The parsers of Python's `prometheus_client` on what the admin listener tells.

Argument: the URL of /metrics. Prints a JSON object of all samples, from a name with its labels to a
value, which both formats must agree on but for what grows meanwhile; says what is wrong otherwise.
"""

import json
import sys
import urllib.request

from prometheus_client import parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

URL, = sys.argv[1:]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def fetch(accept):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(URL, headers={"Accept": accept})) as response:
        return response.headers["Content-Type"], response.read().decode()


def key(sample):
    # The formats write bounds of buckets in two ways.
    told = {**sample.labels, "le": float(sample.labels["le"])} if "le" in sample.labels \
        else sample.labels
    labels = ",".join(f"{name}={value}" for name, value in sorted(told.items()))
    return f"{sample.name}{{{labels}}}"


def samples_of(families):
    samples, names = {}, set()
    for family in families:
        assert family.name not in names, f"{family.name} is there twice"
        assert family.documentation.endswith("."), f"{family.name}: {family.documentation!r}"
        assert family.samples, f"{family.name} says nothing"
        names.add(family.name)
        for sample in family.samples:
            assert key(sample) not in samples, f"{key(sample)} is there twice"
            samples[key(sample)] = sample.value
    return names, samples


kind, text = fetch("application/openmetrics-text; version=1.0.0")
assert kind == OPENMETRICS, kind
# Strict: suffixes, units, order, buckets and the end are as the standard says.
strict_names, strict = samples_of(read_openmetrics(text))
kind, text = fetch("text/plain")
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
names, plain = samples_of(parser.text_string_to_metric_families(text))
assert strict.keys() == plain.keys(), strict.keys() ^ plain.keys()
assert strict_names >= {"process_cpu_seconds", "process_open_fds", "ringwire_connections"}
print(json.dumps(plain))
