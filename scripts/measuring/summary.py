"""Medians, ratios and tables of a comparison, as Markdown."""

from statistics import median

from measuring.generator import MEMORY, METRICS


class Comparison:
    """All results of a comparison, by workload and server, in the order of the rounds."""

    def __init__(self, subject="ringwire"):
        # Whom the tables compare with the others.
        self.subject = subject
        self.results = {}

    def add(self, workload, server, result):
        self.results.setdefault(workload, {}).setdefault(server, []).append(result)

    def values(self, workload, server, metric):
        """A metric in each round; nothing where a round failed."""
        results = self.results.get(workload, {}).get(server, [])
        return [result.get(metric) if result.get("ok") else None for result in results]

    def median(self, workload, server, metric):
        values = [value for value in self.values(workload, server, metric) if value is not None]
        return median(values) if values else None

    def ratio(self, workload, subject, other, metric):
        """The median of the rounds' ratios: what drifts from round to round cancels out."""
        pairs = zip(self.values(workload, subject, metric), self.values(workload, other, metric))
        ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        return median(ratios) if ratios else None

    def measured(self, workload, target):
        """What there is to hold against a target."""
        if target.other is None:
            return self.median(workload, target.subject, target.metric)
        return self.ratio(workload, target.subject, target.other, target.metric)

    def markdown(self, workloads, facts, is_trial):
        parts = ["# Comparison\n"]
        if is_trial:
            parts.append("**A trial with tiny parameters: no figure here means anything.**\n")
        parts.append(about(facts))
        parts.append(self.targets_table(workloads))
        parts += [self.workload_table(workload) for workload in workloads]
        return "\n".join(parts)

    def targets_table(self, workloads):
        lines = ["## Targets\n",
                 "| workload | figure | of | against | at most | measured | reached |",
                 "|---|---|---|---|---|---|---|"]
        for workload in workloads:
            for target in workload.targets:
                measured = self.measured(workload.name, target)
                if measured is None:
                    continue
                reached = "yes" if measured <= target.most else "**no**"
                figures = (f"{target.most:.2f} x | {measured:.3f} x" if target.other
                           else f"{target.most:g} | {number(measured)}")
                lines.append(f"| {workload.title} | {METRICS[target.metric]} | {target.subject} | "
                             f"{target.other or 'nothing'} | {figures} | {reached} |")
        return "\n".join(lines) + "\n"

    def workload_table(self, workload):
        servers = self.results.get(workload.name, {})
        is_idle = workload.kind == "idle"
        metrics = [metric for metric in METRICS if (metric in MEMORY) == is_idle and any(
            self.median(workload.name, server, metric) is not None for server in servers)]
        heads = " | ".join(METRICS[metric] for metric in metrics)
        lines = [f"## {workload.title}\n", f"| server | {heads} | {self.subject}'s CPU | rounds |",
                 "|---" * (len(metrics) + 3) + "|"]
        for server, results in servers.items():
            cells = [self.cell(workload.name, server, metric) for metric in metrics]
            ratio = self.ratio(workload.name, self.subject, server, "cpu_us")
            good = sum(bool(result.get("ok")) for result in results)
            lines.append(f"| {server} | {' | '.join(cells)} | {number(ratio)} x | "
                         f"{good} of {len(results)} |")
        remarks = sorted({f"- {server}: {remark}" for server, results in servers.items()
                          for result in results for remark in result.get("remarks", [])})
        return "\n".join(lines + [""] + remarks) + "\n"

    def cell(self, workload, server, metric):
        values = [value for value in self.values(workload, server, metric) if value is not None]
        if not values:
            return "-"
        spread = f" ({number(min(values))}-{number(max(values))})" if len(values) > 1 else ""
        return number(median(values)) + spread


def about(facts):
    """The machine and what the figures mean, in a paragraph."""
    return (f"{measured_on(facts)} Medians over the rounds, least "
            "and greatest in brackets; a ratio is the median of the ratios of the single rounds. "
            "In each round all servers are measured one after the other, each freshly started, on "
            "core 0, with the load generator on the other core. Latency is from the moment a "
            "message was due. CPU is user and kernel time of the server's process.\n")


def measured_on(facts):
    """The machine and the version, in a sentence."""
    virtual = ", virtual" if facts["hypervisor"] else ""
    dirty = " with uncommitted changes" if facts["uncommitted"] else ""
    return (f"{facts['cpu']}, {facts['cores']} cores{virtual}, Linux {facts['kernel'].split()[0]}, "
            f"commit {(facts['commit'] or 'unknown')[:12]}{dirty}.")


def number(value):
    """Three significant digits, or all of a large number."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
