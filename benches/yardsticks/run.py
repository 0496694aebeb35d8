#!/usr/bin/env python3
"""Requests of kithd beside those of plain sockets, tokio and libp2p: benches/yardsticks/run.py [--rounds 5] [--readme]

Runs the workloads of `kithd bench` on kithd and on each yardstick, a process for each end, in rounds: each workload on
all of them in turn, the order another one in each round. Whatever else this machine does falls on all of them alike,
and what is compared was measured within a minute. Twice: pinned, both ends on one processor, where a figure is work
done; and unpinned, as the system places them, where it is time passed.

    kithd    requests through nodes, encrypted; _inline: answered where they arrive instead of by a worker
    raw      blocking sockets and threads
    tokio    LengthDelimitedCodec and bincode, in the clear, on the current_thread runtime
    tokio2   the same on two workers
    libp2p   TCP, Noise, Yamux, request-response; on current_thread where it is pinned, otherwise on two workers

Prints Markdown tables: medians, and behind those of a yardstick the median of the ratios of kithd's figure to it, a
ratio for each round, with the least and the largest. Where there is a goal, whether it is met is computed from these.
Everything measured is kept as JSON (--out). Exit code 1 if something could not be measured, whose name is said at once;
missing a goal is no error.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
README = PROJECT / "README.md"
MARKERS = "<!-- yardsticks -->", "<!-- /yardsticks -->"
WORKLOADS = ["W1", "W2", "W2c", "W2p", "W3", "W4", "W5", "W6"]
HOWS = ["pinned", "unpinned"]
# For what a run does besides measuring: starting, a thousand connections, waiting until they are calm. In seconds.
PATIENCE = 120

# Each by its arguments, which may depend on how it is run. The first is compared with all others.
SYSTEMS = {
    "kithd": lambda how: ["bench", "--format", "json"],
    "raw": lambda how: [],
    "tokio": lambda how: [],
    "tokio2": lambda how: ["--workers", "2"],
    "libp2p": lambda how: [] if how == "pinned" else ["--workers", "2"],
}
OWN, *OTHERS = SYSTEMS

# The rows: a workload, a figure of its JSON, and what it is called. A workload of kithd's that ends in _inline is
# compared with the one without.
BOTH_KIB = "rss_kib_per_peer + kernel_kib_per_peer"
ROWS = [
    ("W1", "p50_us", "p50, µs"),
    ("W1", "p99_us", "p99, µs"),
    ("W1_inline", "p50_us", "p50, µs"),
    ("W1_inline", "p99_us", "p99, µs"),
    ("W2", "requests_per_second", "requests a second"),
    ("W2_inline", "requests_per_second", "requests a second"),
    ("W2c", "requests_per_second", "requests a second"),
    ("W2p", "requests_per_second", "requests a second"),
    ("W3", "requests_per_second", "requests a second"),
    ("W3_inline", "requests_per_second", "requests a second"),
    ("W4", "mb_per_second", "MB/s"),
    ("W4_inline", "mb_per_second", "MB/s"),
    ("W5", "rss_kib_per_peer", "resident, KiB a peer"),
    ("W5", BOTH_KIB, "and the kernel's, KiB a peer"),
    ("W6", "connections_per_second", "connections a second"),
    ("W6", "server_cpu_us_per_connection", "server's processor, µs each"),
]

# How, workload, figure, bound, and what it is a multiple of: a system's figure, kithd's own other figure, or nothing.
GOALS = [
    ("pinned", "W1_inline", "p50_us", "<=", "1.1", "tokio"),
    ("pinned", "W1_inline", "p50_us", "<=", "1/8", "libp2p"),
    ("pinned", "W1", "p50_us", "<=", "1.4", "tokio"),
    ("pinned", "W2", "requests_per_second", ">=", "2.0", "tokio"),
    ("pinned", "W2", "requests_per_second", ">=", "60", "libp2p"),
    ("pinned", "W2c", "requests_per_second", ">=", "0.25", "tokio"),
    ("pinned", "W2p", "requests_per_second", ">=", "2.0", "tokio"),
    ("pinned", "W3", "requests_per_second", ">=", "1.0", "tokio"),
    ("pinned", "W3_inline", "requests_per_second", ">=", "1.3", "tokio"),
    ("unpinned", "W4", "mb_per_second", ">=", "1.0", "tokio"),
    ("unpinned", "W4", "mb_per_second", ">=", "0.7", "raw"),
    ("pinned", "W5", "rss_kib_per_peer", "<=", "14", None),
    ("pinned", "W5", BOTH_KIB, "<=", "40", None),
    ("pinned", "W6", "connections_per_second", ">=", "2", "libp2p"),
    ("pinned", "W6", "server_cpu_us_per_connection", "<=", "300", None),
    ("unpinned", "W1", "p99_us", "<=", "3", "p50_us"),
]


class Failed(Exception):
    """Something could not be built, run, or read; says what."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kithd", type=Path, help="a release build [default: target/release/kithd, built if missing]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--span", type=milliseconds, default="1s", help="how long each is measured, as in 500ms or 3s")
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=WORKLOADS, help="only these, as in W1,W2")
    parser.add_argument("--how", type=names_of(HOWS), default=HOWS, help="pinned or unpinned [default: both]")
    cpu = max(os.sched_getaffinity(0))
    parser.add_argument("--cpu", type=int, default=cpu, help="the one for pinned [%(default)s]")
    parser.add_argument("--out", type=Path, default=PROJECT / "benches/results/yardsticks.json", help="[%(default)s]")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: one at least")
    if options.cpu not in os.sched_getaffinity(0):
        parser.error(f"--cpu: {options.cpu} is not among those this process may use")
    if options.readme and (options.workloads, options.how) != (WORKLOADS, HOWS):
        parser.error("--readme takes all workloads, pinned and unpinned")
    return options


def milliseconds(text):
    found = re.fullmatch(r"(\d+)(ms|s)", text)
    span = int(found[1]) * (1 if found[2] == "ms" else 1000) if found else 0
    if not 100 <= span <= 3_600_000:
        raise argparse.ArgumentTypeError("must be 100ms to 3600s")
    return span


def names_of(known):
    def names(text):
        chosen = text.split(",")
        if strange := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(strange))}, only {', '.join(known)}")
        return [name for name in known if name in chosen]

    return names


def programs(options):
    """Where each system's program is."""
    kithd = options.kithd or PROJECT / "target/release/kithd"
    if not kithd.is_file():
        if options.kithd:
            raise Failed(f"{kithd} is no program")
        build(PROJECT)
    build(HERE)
    target = HERE / "target/release"
    tokio = target / "yardstick-tokio"
    return {
        "kithd": kithd.resolve(),
        "raw": target / "yardstick-raw",
        "tokio": tokio,
        "tokio2": tokio,
        "libp2p": target / "yardstick-libp2p",
    }


def build(directory):
    command = ["cargo", "build", "--release", "--locked", "--target-dir", str(directory / "target")]
    try:
        done = subprocess.run(command, cwd=directory)
    except OSError as error:
        raise Failed(f"cargo: {error}") from error
    if done.returncode:
        raise Failed(f"{' '.join(command)} in {directory} has failed: see above")


def measured(program, system, workload, how, options):
    """What one run says: a report like that of `kithd bench --format json`."""
    who = f"{system}, {workload}, {how}"
    cpus = {options.cpu} if how == "pinned" else os.sched_getaffinity(0)
    words = [*SYSTEMS[system](how), "--workloads", workload, "--span", f"{options.span}ms"]
    # Its child inherits the processors, and its group is ended with it.
    process = subprocess.Popen(
        [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    patience = PATIENCE + 4 * options.span / 1000
    try:
        out, err = process.communicate(timeout=patience)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"{who}: not done after {patience:.0f} s") from error
        raise
    if process.returncode:
        raise Failed(f"{who}: exit code {process.returncode}: {err.strip() or 'no word'}")
    try:
        report = json.loads(out)
        found = report["workloads"][workload]
    except (ValueError, KeyError) as error:
        raise Failed(f"{who}: what it says is no report of {workload}: {error!r}") from error
    if not found or report["schema"] != 1:
        raise Failed(f"{who}: a report of another kind: {out.strip()}")
    if system == OWN and not report["machine"]["optimised"]:
        raise Failed(f"{who}: {program} is no release build")
    return report


def measure_all(options, paths):
    """All rounds: figures by how, workload, system and round, none where it failed; the machine; what failed."""
    runs = {how: {} for how in options.how}
    machines, failures = {}, []
    for number in range(options.rounds):
        order = [*SYSTEMS][number % len(SYSTEMS):] + [*SYSTEMS][:number % len(SYSTEMS)]
        for workload in options.workloads:
            for how in options.how:
                print(f"round {number + 1} of {options.rounds}: {workload}, {how}", file=sys.stderr)
                for system in order:
                    try:
                        report = measured(paths[system], system, workload, how, options)
                    except Failed as failed:
                        print(failed, file=sys.stderr)
                        failures.append({"round": number + 1, "what": str(failed)})
                        continue
                    if system == OWN:
                        machines[how] = report["machine"]
                    for name, figures in report["workloads"].items():
                        rounds = runs[how].setdefault(name, {}).setdefault(system, [None] * options.rounds)
                        rounds[number] = figures
    return runs, machines, failures


class Results:
    """What was measured, and what follows."""

    def __init__(self, runs):
        self.runs = runs

    def values(self, how, workload, system, figure):
        """One for each round, or none where there is none."""
        if system != OWN:
            workload = workload.removesuffix("_inline")
        rounds = self.runs.get(how, {}).get(workload, {}).get(system, [])
        return [figures and self.value(figures, figure) for figures in rounds]

    @staticmethod
    def value(figures, figure):
        parts = [figures.get(part) for part in figure.split(" + ")]
        return None if None in parts else sum(parts)

    def median(self, how, workload, system, figure):
        values = [value for value in self.values(how, workload, system, figure) if value is not None]
        return statistics.median(values) if values else None

    def ratios(self, how, workload, figure, other, of=None):
        """Of kithd's figure to another's, for each round that has both; `of` is the other's figure if it is another."""
        own = self.values(how, workload, OWN, figure)
        theirs = self.values(how, workload, other, of or figure)
        return [mine / other for mine, other in zip(own, theirs) if mine is not None and other]

    def verdict(self, goal):
        """What a goal is compared with, and whether it is met; none if that was not measured."""
        how, workload, figure, relation, bound, against = goal
        if against is None:
            found = self.median(how, workload, OWN, figure)
        else:
            ratios = self.ratios(how, workload, figure, *((against,) if against in SYSTEMS else (OWN, against)))
            found = statistics.median(ratios) if ratios else None
        if found is None:
            return None, None
        bound = float(Fraction(bound))
        return found, found <= bound if relation == "<=" else found >= bound


def text(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def table(results, how):
    """In Markdown."""
    lines = [f"| {how} | | {' | '.join(SYSTEMS)} | goal | verdict |", "| --- | --- |" + " --- |" * (len(SYSTEMS) + 2)]
    for workload, figure, name in ROWS:
        if all(results.median(how, workload, system, figure) is None for system in SYSTEMS):
            continue
        cells = [beside(results, how, workload, figure, system) for system in SYSTEMS]
        goals = [goal for goal in GOALS if goal[:3] == (how, workload, figure)]
        cells += [", ".join(map(wanted, goals)), ", ".join(reached(*results.verdict(goal)) for goal in goals)]
        lines.append(f"| {workload} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside(results, how, workload, figure, other):
    median = results.median(how, workload, other, figure)
    ratios = [] if other == OWN else results.ratios(how, workload, figure, other)
    if median is None:
        return "-"
    if not ratios:
        return text(median)
    return f"{text(median)} ({text(statistics.median(ratios))}x, {text(min(ratios))} to {text(max(ratios))})"


def wanted(goal):
    _, _, _, relation, bound, against = goal
    sign = "≤" if relation == "<=" else "≥"
    return f"{sign} {bound}" if against is None else f"{sign} {bound}x {against.removesuffix('_us')}"


def reached(found, is_met):
    if found is None:
        return "not measured"
    return f"{'met' if is_met else 'not reached'}: {text(found)}"


def versions():
    lock = (HERE / "Cargo.lock").read_text()
    found = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    return {name: found[name] for name in ("tokio", "tokio-util", "bincode", "libp2p")}


def summary(results, kept):
    """The tables, and what they are of."""
    machine = kept["machine"].get("unpinned") or kept["machine"].get("pinned") or {}
    libraries = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    what = (
        f"{machine.get('cpu', 'An unknown machine')}, {machine.get('cores', '?')} cores,"
        f" Linux {machine.get('kernel', '?')}; kithd {machine.get('version', '?')}, {libraries}."
        f" Rounds: {kept['rounds']}, {kept['span_ms']} ms each time."
    )
    said = [what, *(table(results, how) for how in kept["runs"])]
    if kept["failures"]:
        left_out = "; ".join(sorted({failure["what"].splitlines()[0] for failure in kept["failures"]}))
        said.append(f"Left out because they failed, {len(kept['failures'])} runs: {left_out}.")
    return "\n\n".join(said)


def put_into_readme(said):
    readme = README.read_text()
    (before, _), (_, after) = readme.split(MARKERS[0]), readme.split(MARKERS[1])
    README.write_text(f"{before}{MARKERS[0]}\n{said}\n{MARKERS[1]}{after}")


def main():
    options = arguments()
    try:
        if options.readme and [README.read_text().count(marker) for marker in MARKERS] != [1, 1]:
            raise Failed(f"{README} has not one {MARKERS[0]} and one {MARKERS[1]}")
        paths = programs(options)
    except Failed as failed:
        sys.exit(str(failed))
    runs, machines, failures = measure_all(options, paths)
    results = Results(runs)
    kept = {"schema": 1, "rounds": options.rounds, "span_ms": options.span, "machine": machines, "versions": versions()}
    verdicts = [(goal, *results.verdict(goal)) for goal in GOALS]
    kept["goals"] = [
        {"how": goal[0], "workload": goal[1], "figure": goal[2], "goal": wanted(goal), "found": found, "met": is_met}
        for goal, found, is_met in verdicts if found is not None
    ]
    kept |= {"failures": failures, "runs": runs}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(kept, indent=1) + "\n")
    said = summary(results, kept)
    print(said)
    if options.readme:
        put_into_readme(said)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
