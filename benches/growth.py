#!/usr/bin/env python3
"""How the cost of requests grows with peers and with payloads: benches/growth.py [--span 1s] [--rounds 3] [--readme]

Runs `kithd bench` with 1 to 4,096 connections to one node, and with payloads of 16 B to 1 MiB, pinned (both processes on
one processor, where a figure is work done) and unpinned (as the system places them). Takes medians of the rounds, writes
them as JSON (--out), as plots (SVG, in the same directory) and as Markdown tables, to standard output or into README.md.

Also looks at the threads that do the work while 64 connections ask as much as they can, unpinned: how much of a
processor the server's reactor has, and the client's, at how many requests a second.

Python 3, nothing else. Exit code 1 if something could not be measured, whose name is said at once.
"""

import argparse
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
MARKERS = "<!-- growth -->", "<!-- /growth -->"
HOWS = ["pinned", "unpinned"]
PEERS = [1, 4, 16, 64, 256, 1024, 4096]
PAYLOADS = [16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576]
# A node under load with 1,024 peers is to do at least so much of what it does with 64.
FLOOR = 0.6
# For what a run does besides measuring: thousands of connections, and waiting until they are calm. In seconds.
PATIENCE = 240
# How long one look at the threads takes, in seconds.
LOOK = 2.0


class Failed(Exception):
    """Something could not be run, or read; says what."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kithd", type=Path, default=PROJECT / "target/release/kithd", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--span", default="1s", help="how long each is measured [%(default)s]")
    cpu = max(os.sched_getaffinity(0))
    parser.add_argument("--cpu", type=int, default=cpu, help="the one for pinned [%(default)s]")
    parser.add_argument("--out", type=Path, default=PROJECT / "benches/results/growth.json", help="[%(default)s]")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: one at least")
    if not options.kithd.is_file():
        parser.error(f"{options.kithd} is no program: cargo build --release")
    return options


def start(options, how, words, span=None):
    """One bench, in a group of its own."""
    cpus = {options.cpu} if how == "pinned" else os.sched_getaffinity(0)
    command = [options.kithd.resolve(), "bench", "--format", "json", "--span", span or options.span, *words]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )


def finish(process, what):
    """What it says."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"{what}: not done after {PATIENCE} s") from error
        raise
    if process.returncode:
        raise Failed(f"{what}: exit code {process.returncode}: {err.strip() or 'no word'}")
    report = json.loads(out)
    if not report["machine"]["optimised"]:
        raise Failed(f"{what}: it is no release build")
    return report


def measure_all(options):
    """Figures by how, sort, size and workload, a list of rounds each; the machine; what failed."""
    runs = {how: {"peers": {}, "payload": {}} for how in HOWS}
    machine, failures = {}, []
    # Idle peers in a process of their own: what a load has left behind would be used again, and hide what they take.
    plan = [("peers", size, "W3", HOWS) for size in PEERS] + [("peers", size, "W5", ["unpinned"]) for size in PEERS]
    plan += [("payload", size, "W1,W2", HOWS) for size in PAYLOADS]
    for number in range(options.rounds):
        for sort, size, workloads, hows in plan:
            for how in hows:
                what = f"{sort} {size}, {workloads}, {how}"
                print(f"round {number + 1} of {options.rounds}: {what}", file=sys.stderr)
                try:
                    report = finish(start(options, how, ["--workloads", workloads, f"--{sort}", str(size)]), what)
                except Failed as failed:
                    print(failed, file=sys.stderr)
                    failures.append(str(failed))
                    continue
                machine = report["machine"] | {"cores": len(os.sched_getaffinity(0))}
                for workload, figures in report["workloads"].items():
                    runs[how][sort].setdefault(str(size), {}).setdefault(workload, []).append(figures)
    return runs, machine, failures


def threads_of(pid):
    """Processor time of each thread, in seconds, by its number and name."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            said = (task / "stat").read_text()
        except OSError:
            continue
        name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)", said.strip(), re.S).groups()
        ticks = [int(word) for word in rest.split()[11:13]]
        found[(task.name, name)] = sum(ticks) / os.sysconf("SC_CLK_TCK")
    return found


def busy_shares(pids):
    """How much of a processor the reactor of each had, and all its threads together, while this function slept."""
    before, then = [threads_of(pid) for pid in pids], time.monotonic()
    time.sleep(LOOK)
    after, span = [threads_of(pid) for pid in pids], time.monotonic() - then
    shares = []
    for early, late in zip(before, after):
        used = {key: late[key] - early.get(key, 0.0) for key in late}
        reactor = sum(value for (_, name), value in used.items() if name == "reactor")
        shares.append((reactor / span, sum(used.values()) / span))
    return shares


def child_of(pid):
    """The server."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def saturation(options):
    """Of the inline fan-in: requests a second, and how busy whom they keep."""
    what = "64 connections, as much as they can"
    process = start(options, "unpinned", ["--workloads", "W3", "--peers", "64"], span="6s")
    # W3 comes first, for six seconds, and then its inline form, each after connecting.
    time.sleep(9.0)
    try:
        server, client = busy_shares([child_of(process.pid), process.pid])
        looked = {"server": server, "client": client}
    except (OSError, TypeError) as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"{what}: cannot see its threads: {error}") from error
    report = finish(process, what)
    return {
        "requests_per_second": report["workloads"]["W3_inline"]["requests_per_second"],
        **{f"{who}_{part}": share for who, both in looked.items() for part, share in zip(("reactor", "all"), both)},
    }


class Results:
    """What was measured."""

    def __init__(self, runs):
        self.runs = runs

    def median(self, how, sort, size, workload, figure):
        rounds = self.runs[how][sort].get(str(size), {}).get(workload, [])
        values = [figures[figure] for figures in rounds if figures.get(figure) is not None]
        return statistics.median(values) if values else None


def text(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def size_name(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def peers_table(results):
    lines = [
        "| peers | requests a second | inline | CPU µs each, inline | unpinned | unpinned, inline | resident KiB an idle"
        " peer | the kernel's | CPU % at rest |",
        "| --- |" + " --- |" * 8,
    ]
    for size in PEERS:
        rate = lambda how, workload: text(results.median(how, "peers", size, workload, "requests_per_second"))
        # Of a handful, what a node takes besides, or lets go, is more than they are.
        idle = lambda figure: text(results.median("unpinned", "peers", size, "W5", figure) if size >= 64 else None)
        cells = [
            f"{size:,}", rate("pinned", "W3"), rate("pinned", "W3_inline"),
            text(results.median("pinned", "peers", size, "W3_inline", "cpu_us_per_request")),
            rate("unpinned", "W3"), rate("unpinned", "W3_inline"), idle("rss_kib_per_peer"),
            idle("kernel_kib_per_peer"), idle("idle_cpu_percent"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def payload_table(results):
    lines = [
        "| payload | p50 µs | p50 µs, inline | p99 µs, inline | pipelined, inline: requests a second | MB/s | CPU µs each |"
        " unpinned: MB/s |",
        "| --- |" + " --- |" * 7,
    ]
    for size in PAYLOADS:
        of = lambda workload, figure, how="pinned": results.median(how, "payload", size, workload, figure)
        cells = [
            size_name(size), text(of("W1", "p50_us")), text(of("W1_inline", "p50_us")), text(of("W1_inline", "p99_us")),
            text(of("W2_inline", "requests_per_second")), text(megabytes(results, "pinned", size)),
            text(of("W2_inline", "cpu_us_per_request")), text(megabytes(results, "unpinned", size)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def megabytes(results, how, size):
    """A second, there and back."""
    rate = results.median(how, "payload", size, "W2_inline", "requests_per_second")
    return rate and rate * 2 * size / 1e6


def floor(results):
    """How much of what it does with 64 peers a node does with 1,024, by workload and how."""
    found = {}
    for how in HOWS:
        for workload in ("W3", "W3_inline"):
            few, many = (results.median(how, "peers", size, workload, "requests_per_second") for size in (64, 1024))
            if few and many:
                found[f"{workload}, {how}"] = many / few
    return found


COLOURS = ["#1f6fb4", "#d1582b", "#2e8b57", "#8052a3"]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 70, 46, 34, 16


def plot(path, title, across, up, sizes, name, series):
    """A chart with logarithmic axes: `series` is a list of a label and a value, or none, for each size."""
    values = [value for _, line in series for value in line if value]
    if not values:
        return
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    first, last = math.log2(sizes[0]), math.log2(sizes[-1])
    x = lambda size: LEFT + (math.log2(size) - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    y = lambda value: HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - BOTTOM - TOP)
    put = lambda at, down, said, more="": f'<text x="{at:.1f}" y="{down:.1f}" {more}>{said}</text>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        put(WIDTH / 2, 16, title, 'text-anchor="middle" font-size="13"'),
        put(WIDTH / 2, HEIGHT - 8, across, 'text-anchor="middle"'),
        put(14, HEIGHT / 2, up, f'text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})"'),
    ]
    for power in range(low, high + 1):
        at = y(10 ** power)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(put(LEFT - 6, at + 4, f"{10 ** power:,g}", 'text-anchor="end"'))
    for size in sizes:
        parts.append(put(x(size), HEIGHT - BOTTOM + 16, name(size), 'text-anchor="middle"'))
    # The names stand where the lines are not: those that rise end on the right.
    rises = sum(line[-1] or 0 for _, line in series) > sum(line[0] or 0 for _, line in series)
    names = LEFT + 12 if rises else WIDTH - RIGHT - 190
    for index, (label, line) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = [(x(size), y(value)) for size, value in zip(sizes, line) if value]
        drawn = " ".join(f"{right:.1f},{down:.1f}" for right, down in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{right:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for right, down in points]
        at = TOP + 8 + 14 * index
        parts.append(f'<rect x="{names}" y="{at - 8}" width="10" height="10" fill="{colour}"/>')
        parts.append(put(names + 15, at + 1, label))
    path.write_text("\n".join(parts + ["</svg>"]) + "\n")


def plots(results, directory):
    of = lambda how, sort, sizes, workload, figure: [results.median(how, sort, s, workload, figure) for s in sizes]
    rates = [
        (f"{name}, {how}", of(how, "peers", PEERS, workload, "requests_per_second"))
        for workload, name in (("W3", "on a worker"), ("W3_inline", "inline")) for how in HOWS
    ]
    plot(directory / "peers-throughput.svg", "Fan-in: 16 requests of 64 B under way on each connection, 16,384 at most", "peers",
         "requests a second", PEERS, "{:,}".format, rates)
    # Little's law: those under way, by how many are done.
    under_way = [size * (results.median("pinned", "peers", size, "W3", "window") or 16) for size in PEERS]
    waits = [(label, [rate and most / rate * 1e6 for most, rate in zip(under_way, line)]) for label, line in rates]
    plot(directory / "peers-latency.svg", "Fan-in: mean time of a request, with as much under way as there can be",
         "peers", "µs", PEERS, "{:,}".format, waits)
    costs = [
        (f"{name}, {how}", of(how, "peers", PEERS, workload, "cpu_us_per_request"))
        for workload, name in (("W3", "on a worker"), ("W3_inline", "inline")) for how in HOWS
    ]
    plot(directory / "peers-cpu.svg", "Fan-in: processor time of both ends for a request", "peers", "µs", PEERS,
         "{:,}".format, costs)
    memory = [
        (name, of("unpinned", "peers", PEERS, "W5", figure))
        for figure, name in (("rss_kib_per_peer", "resident"), ("kernel_kib_per_peer", "the kernel's"))
    ]
    memory = [(name, [value if size >= 64 else None for size, value in zip(PEERS, line)]) for name, line in memory]
    plot(directory / "peers-memory.svg", "An idle peer", "peers", "KiB each", PEERS, "{:,}".format, memory)
    trips = [
        (f"{name}, {percent}", of("pinned", "payload", PAYLOADS, workload, f"{percent}_us"))
        for workload, name in (("W1", "on a worker"), ("W1_inline", "inline")) for percent in ("p50", "p99")
    ]
    plot(directory / "payload-latency.svg", "One request at a time, both ends on one processor", "payload", "µs",
         PAYLOADS, size_name, trips)
    bulk = [(how, [megabytes(results, how, size) for size in PAYLOADS]) for how in HOWS]
    plot(directory / "payload-throughput.svg", "Pipelined on one connection, inline, both directions together",
         "payload", "MB/s", PAYLOADS, size_name, bulk)


def summary(kept, results):
    machine = kept["machine"]
    shares = ", ".join(f"{share:.2f} ({name})" for name, share in kept["floor"].items())
    verdict = "met" if kept["floor"] and min(kept["floor"].values()) >= FLOOR else "not reached"
    said = [
        f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, kithd {machine.get('version', '?')};"
        f" rounds: {kept['rounds']}, {kept['span']} each. Pinned where nothing else is said.",
        peers_table(results),
        f"With 1,024 peers it does so much of what it does with 64: {shares}. The goal is {FLOOR}: {verdict}.",
        payload_table(results),
    ]
    if full := kept["saturation"]:
        said.append(
            f"With both processors, 64 connections and {full['requests_per_second']:,.0f} requests a second, the"
            f" server's reactor has {full['server_reactor']:.0%} of a processor and all its threads {full['server_all']:.0%};"
            f" the client's {full['client_reactor']:.0%} and {full['client_all']:.0%}."
        )
    if kept["failures"]:
        said.append(f"Left out because they failed: {'; '.join(sorted(set(kept['failures'])))}.")
    return "\n\n".join(said)


def main():
    options = arguments()
    if options.readme and [README.read_text().count(marker) for marker in MARKERS] != [1, 1]:
        sys.exit(f"{README} has not one {MARKERS[0]} and one {MARKERS[1]}")
    runs, machine, failures = measure_all(options)
    try:
        full = saturation(options)
    except Failed as failed:
        print(failed, file=sys.stderr)
        failures.append(str(failed))
        full = None
    results = Results(runs)
    kept = {
        "schema": 1, "rounds": options.rounds, "span": options.span, "machine": machine, "floor": floor(results),
        "saturation": full, "failures": failures, "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(kept, indent=1) + "\n")
    plots(results, options.out.parent)
    said = summary(kept, results)
    print(said)
    if options.readme:
        readme = README.read_text()
        (before, _), (_, after) = readme.split(MARKERS[0]), readme.split(MARKERS[1])
        README.write_text(f"{before}{MARKERS[0]}\n{said}\n{MARKERS[1]}{after}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
