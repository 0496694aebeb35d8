#!/usr/bin/env python3
"""A network of real processes, measured: benches/earnest.py [ROW ...] [--nodes 100] [--kithd target/release/kithd]

Prints JSON on standard output and a table on standard error; exit code 1 if a goal is missed. The rows, all by default:

    start      all nodes started at once, from one seed: until all show that all agree
    cpu        processor time of each node at rest, over a minute
    memory     resident memory of each node
    kill       one node gets SIGKILL: until it is down for all others
    leave      one node gets SIGTERM: until it has left for all others; nobody may see it down
    pause      one node stands still for a minute: nobody else may be down for anybody, and all agree again
    mass       three tenths get SIGKILL at once: until the rest agree
    partition  two halves in two network namespaces, their link cut and mended (as root; otherwise skipped)

How it looks on: a change of status is a line in the log of each node, with its time, and the logs are read from disk:
no node is asked for it. Whether all agree is asked at the admin sockets, at one node at a time, the next only when that
one says yes. "Shown" is when the last node said so; "held" is when the last node came to hold that view, by its own
clock. An agreement counts only if it is still there two seconds later. While the nodes rest, nobody asks them anything.

A goal is met if the median of the runs meets it; the worst run stands beside it. The processes share the machine with
each other and with this script: with a hundred nodes on two cores a start is mostly a matter of processor time.
"""

import argparse
import calendar
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PATIENCE = 60
TELLS = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?\S* .* (\S+) \([0-9a-f]{8}\) is (up|suspect|down|left)$")


class Lost(Exception):
    """What was waited for did not come."""


def moment(whole, fraction=None):
    """Seconds since 1970 of a time in a log or a report."""
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0" + (fraction or ""))


class Node:
    """One process, on its own state directory, which outlives it."""

    def __init__(self, kithd, home, number, address, flags=(), enter=()):
        self.label = f"n{number:03}"
        self.address = f"{address}:7100"
        self.home = home / self.label
        self.log = home / f"{self.label}.log"
        self.command = [*enter, kithd, "run", "--label", self.label, "--state-dir", str(self.home)]
        self.command += ["--listen", self.address, "--log-file", str(self.log), *flags]
        self.process, self.socket, self.answers = None, None, None
        self.read, self.rest, self.told = 0, b"", []

    def start(self):
        self.hang_up()
        with open(self.log.with_suffix(".out"), "wb") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait_ready(self, deadline):
        out = self.log.with_suffix(".out")
        while b"kithd ready" not in out.read_bytes():
            if self.process.poll() is not None or time.time() > deadline:
                raise Lost(f"{self.label} does not start: {out.read_text(errors='replace').strip()}")
            time.sleep(0.005)

    def end(self, with_signal=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(with_signal)

    def hang_up(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def ask(self, verb):
        """What `kithd VERB --format json` prints, by way of the admin socket."""
        if not self.socket:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(self.home / "admin.sock"))
            self.answers = self.socket.makefile("rb")
        self.socket.sendall(json.dumps({"verb": verb}).encode() + b"\n")
        return json.loads(self.answers.readline())["ok"]

    def statuses(self):
        """All (moment, label, status) that its log tells, in order."""
        try:
            with open(self.log, "rb") as log:
                log.seek(self.read)
                fresh = log.read()
        except FileNotFoundError:
            return self.told
        self.read += len(fresh)
        *lines, self.rest = (self.rest + fresh).split(b"\n")
        for line in lines:
            if found := TELLS.search(line):
                whole, fraction, label, status = (part and part.decode() for part in found.groups())
                self.told.append((moment(whole, fraction), label, status))
        return self.told

    def usage(self):
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident, proportional and private MiB."""
        rows = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]
        kib = {name: int(rest.split()[0]) for name, rest in (row.split(":", 1) for row in rows)}
        sizes = {"rss": kib["Rss"], "pss": kib["Pss"], "private": kib["Private_Clean"] + kib["Private_Dirty"]}
        return {name: round(size / 1024, 2) for name, size in sizes.items()}


def agreement(nodes, began, timeout=PATIENCE):
    """When all of these showed that all of these and nobody else agree, and since when they held that view, in seconds
    after `began`: of the first such view, and of the first that was there two seconds later too."""
    first = None
    deadline = time.time() + timeout
    while True:
        shown, held, digest = agreed_once(nodes, deadline)
        first = first or {"first_shown_s": round(shown - began, 2), "first_held_s": round(held - began, 2)}
        lasts = time.time() + 2
        while unanimous(nodes[-1].ask("status")["network_view"], digest, nodes) and time.time() < lasts:
            time.sleep(0.1)
        if time.time() >= lasts and agreed_once(nodes, deadline)[2] == digest:
            return {"shown_s": round(shown - began, 2), "held_s": round(held - began, 2), **first}


def unanimous(view, digest, nodes):
    claim = view["agreement"]
    return claim["unanimous"] and claim["live"] == view["up"] == len(nodes) and digest in (None, view["digest"])


def agreed_once(nodes, deadline):
    """When the last of the nodes showed it, since when the last of them has held that view, and the view's digest."""
    waiting, digest, held = list(nodes), None, []
    while waiting:
        node = waiting[0]
        view = node.ask("status")["network_view"]
        claim = view["agreement"]
        if unanimous(view, digest, nodes):
            since = re.match(r"([^.Z]*)(\.\d+)?", claim["since"])
            held.append(moment(since[1], since[2]))
            digest = view["digest"]
            waiting.pop(0)
            continue
        if digest not in (None, view["digest"]):
            # The others have gone on to another view meanwhile, or this one is about to.
            waiting, digest, held = list(nodes), None, []
        if time.time() > deadline:
            raise Lost(f"no agreement of {len(nodes)}: {node.label} has {view['up']} up, {claim['agreeing']} agreeing")
        time.sleep(0.05)
    return time.time(), max(held), digest


def told(nodes, labels, status, began, timeout=PATIENCE):
    """Waits until each of the nodes has told that status of each of the labels; the moments, sorted."""
    deadline = time.time() + timeout
    missing = {(node.label, label) for node in nodes for label in labels}
    moments = []
    while missing:
        for node in nodes:
            for at, label, what in node.statuses():
                if at >= began and what == status and (node.label, label) in missing:
                    missing.remove((node.label, label))
                    moments.append(at - began)
        if missing and time.time() > deadline:
            raise Lost(f"{len(missing)} times not told: {status}; {min(missing)} for instance")
        time.sleep(0.05)
    return sorted(moments)


def wrongly_down(nodes, dead, began):
    """Who was told to be down since then without being so, and by whom."""
    return sorted(
        {f"{label} by {node.label}" for node in nodes for at, label, status in node.statuses()
         if at >= began and status == "down" and label not in dead}
    )


def spread(moments):
    figures = {"first_s": moments[0], "median_s": statistics.median(moments), "all_s": moments[-1]}
    return {name: round(figure, 3) for name, figure in figures.items()}


class Cluster:
    """Nodes that know one seed, the first of them. On loopback, each has an address of its own."""

    def __init__(self, options):
        self.home = Path(tempfile.mkdtemp(prefix="kithd-earnest-"))
        block = random.randrange(16, 240)
        self.nodes = [
            Node(options.kithd, self.home, number, f"127.{block}.{number // 250}.{number % 250 + 1}")
            for number in range(options.nodes)
        ]
        self.introduce()

    def introduce(self):
        for node in self.nodes[1:]:
            node.command += ["--connect", self.nodes[0].address]

    def start(self):
        """The seed, and all others as soon as it serves. When the first and when the last was started."""
        first = time.time()
        deadline = first + PATIENCE
        self.nodes[0].start()
        self.nodes[0].wait_ready(deadline)
        for node in self.nodes[1:]:
            node.start()
        last = time.time()
        for node in self.nodes:
            node.wait_ready(deadline)
        return first, last

    def restart(self, nodes):
        """Starts ended nodes again on their state; when all agree again."""
        began = time.time()
        for node in nodes:
            node.process.wait(PATIENCE)
            node.start()
        for node in nodes:
            node.wait_ready(began + PATIENCE)
        return agreement(self.nodes, began, 2 * PATIENCE)

    def stop(self):
        for node in self.nodes:
            node.hang_up()
            node.end(signal.SIGCONT)
            node.end()
        for node in self.nodes:
            if node.process:
                node.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Divided(Cluster):
    """Two halves in a network namespace each, and a bridge in a third between them. The nodes' addresses are on
    loopback devices, so that a cut link takes nothing else away; each in a /24 of its own, as on many machines."""

    def __init__(self, options):
        self.home = Path(tempfile.mkdtemp(prefix="kithd-earnest-"))
        self.names = [f"kithd-{os.getpid()}-{side}" for side in ("left", "right", "between")]
        key = self.home / "network.key"
        subprocess.run([options.kithd, "keygen", "--out", key], check=True, capture_output=True)
        self.nodes = []
        try:
            self.lay_out(options, key)
        except BaseException:
            self.stop()
            raise
        self.introduce()

    def lay_out(self, options, key):
        *sides, between = self.names
        for name in self.names:
            run("ip", "netns", "add", name)
        run("ip", "-n", between, "link", "add", "bridge", "up", "type", "bridge")
        for number, (side, port) in enumerate(zip(sides, ("left", "right"))):
            run("ip", "-n", between, "link", "add", port, "type", "veth", "peer", "name", "out", "netns", side)
            run("ip", "-n", between, "link", "set", port, "master", "bridge", "up")
            run("ip", "-n", side, "address", "add", f"10.200.0.{number + 1}/30", "dev", "out")
            run("ip", "-n", side, "link", "set", "lo", "up")
            run("ip", "-n", side, "link", "set", "out", "up")
            run("ip", "-n", side, "route", "add", f"10.{202 - number}.0.0/16", "via", f"10.200.0.{2 - number}")
        for number in range(options.nodes):
            side, address = sides[number % 2], f"10.{201 + number % 2}.{number}.1"
            run("ip", "-n", side, "address", "add", f"{address}/32", "dev", "lo")
            flags, enter = ["--network-key-file", str(key)], ["ip", "netns", "exec", side]
            self.nodes.append(Node(options.kithd, self.home, number, address, flags, enter))

    def link(self, state):
        run("ip", "-n", self.names[2], "link", "set", "left", state)

    def stop(self):
        super().stop()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Lost(f"{' '.join(command)}: {done.stderr.strip()}")


class Bench:
    """The rows, and the network they share."""

    def __init__(self, options):
        self.options = options
        self.cluster = None

    def fresh(self):
        self.stop()
        self.cluster = Cluster(self.options)
        first, last = self.cluster.start()
        return {**agreement(self.cluster.nodes, first, 2 * PATIENCE), "starting_s": round(last - first, 2)}

    def ready(self):
        """The network as it should be: the one that there is, or another if a row has failed on it."""
        if self.cluster:
            agreement(self.cluster.nodes, time.time())
        else:
            self.fresh()

    def stop(self):
        if self.cluster:
            self.cluster.stop()
        self.cluster = None

    def victims(self, count):
        """Not the seed, whom the others would need if they started again meanwhile."""
        return random.sample(self.cluster.nodes[1:], count)

    def others(self, victims):
        return [node for node in self.cluster.nodes if node not in victims]

    def start(self):
        runs = [self.fresh() for _ in range(self.options.repeat)]
        return {"measured": [found["shown_s"] for found in runs], "runs": runs}

    def cpu(self):
        nodes = self.cluster.nodes
        time.sleep(10)
        before, began = [node.usage() for node in nodes], time.monotonic()
        time.sleep(self.options.rest)
        span = time.monotonic() - began
        percent = [100 * (node.usage() - used) / span for node, used in zip(nodes, before)]
        figures = {"median": statistics.median(percent), "mean": statistics.mean(percent), "seconds": span}
        return {"measured": [round(max(percent), 2)], **{name: round(figure, 3) for name, figure in figures.items()}}

    def memory(self):
        sizes = [node.memory() for node in self.cluster.nodes]
        threads = sorted(len(os.listdir(f"/proc/{node.process.pid}/task")) for node in self.cluster.nodes)
        resident = [size["rss"] for size in sizes]
        found = {"measured": [max(resident)], "compared": "VmRSS, shared pages included"}
        found["nodes_above_the_goal"] = sum(size > ROWS["memory"][1] for size in resident)
        for name in ("rss", "pss", "private"):
            figures = [size[name] for size in sizes]
            found[f"{name}_mib"] = {"median": round(statistics.median(figures), 2), "max": max(figures)}
        return {**found, "threads": {"median": statistics.median(threads), "max": threads[-1]}}

    def end_one(self, with_signal, status):
        """Runs of one node ended so, each until it has that status for all others, and its return."""
        runs = []
        for victim in self.victims(self.options.repeat):
            others = self.others([victim])
            began = time.time()
            victim.end(with_signal)
            found = spread(told(others, [victim.label], status, began))
            # Long enough for a wrong verdict to come, if one comes.
            time.sleep(4)
            dead = {victim.label} if status == "down" else set()
            found["wrongly_down"] = wrongly_down(others, dead, began)
            found["back_and_agreed_s"] = self.cluster.restart([victim])["shown_s"]
            runs.append(found)
        right = not any(found["wrongly_down"] for found in runs)
        return {"measured": [found["all_s"] for found in runs], "runs": runs, "met": right}

    def kill(self):
        return self.end_one(signal.SIGKILL, "down")

    def leave(self):
        return self.end_one(signal.SIGTERM, "left")

    def pause(self):
        (victim,) = self.victims(1)
        others = self.others([victim])
        stopped = time.time()
        victim.end(signal.SIGSTOP)
        victim.hang_up()
        down = spread(told(others, [victim.label], "down", stopped))
        time.sleep(max(0, stopped + self.options.pause - time.time()))
        went_on = time.time()
        victim.end(signal.SIGCONT)
        back = spread(told(others, [victim.label], "up", went_on))
        agreed = agreement(self.cluster.nodes, went_on)
        time.sleep(4)
        wrong = wrongly_down(self.cluster.nodes, {victim.label}, stopped)
        return {"measured": [len(wrong)], "wrongly_down": wrong, "down": down, "up_again": back, "all_agree": agreed}

    def mass(self):
        runs = []
        for _ in range(self.options.repeat):
            victims = self.victims(len(self.cluster.nodes) * 3 // 10)
            rest, labels = self.others(victims), {victim.label for victim in victims}
            began = time.time()
            for victim in victims:
                victim.end()
            found = agreement(rest, began, 2 * PATIENCE)
            found["down"] = spread(told(rest, labels, "down", began))
            found["wrongly_down"] = wrongly_down(rest, labels, began)
            found["back_and_agreed_s"] = self.cluster.restart(victims)["shown_s"]
            runs.append(found)
        return {"measured": [found["shown_s"] for found in runs], "runs": runs}

    def partition(self):
        if os.geteuid() or not shutil.which("ip"):
            return {"skipped": "it takes root, and the program 'ip'"}
        self.stop()
        runs = []
        divided = Divided(self.options)
        try:
            first, _ = divided.start()
            started = agreement(divided.nodes, first, 2 * PATIENCE)["shown_s"]
            for _ in range(self.options.repeat):
                halves = divided.nodes[::2], divided.nodes[1::2]
                began = time.time()
                divided.link("down")
                with ThreadPoolExecutor() as both:
                    found = {"sides": list(both.map(lambda half: agreement(half, began), halves))}
                # A side has nothing to say about those who live on it.
                for half in halves:
                    beyond = {node.label for node in divided.nodes if node not in half}
                    found.setdefault("wrongly_down", []).extend(wrongly_down(half, beyond, began))
                began = time.time()
                divided.link("up")
                found["healed"] = agreement(divided.nodes, began, 2 * PATIENCE)
                runs.append(found)
        finally:
            divided.stop()
        sides = [max(side["shown_s"] for side in found["sides"]) for found in runs]
        healed = [found["healed"]["shown_s"] for found in runs]
        return {"measured": healed, "started_s": started, "sides_agree_s": sides, "runs": runs}


# What each row is compared with; nothing: it has to come about at all.
ROWS = {
    "start": ("from one seed to unanimous agreement", 10, "s"),
    "cpu": ("processor at rest, of the busiest node", 0.5, "% of a core"),
    "memory": ("resident memory, of the largest node", 8, "MiB"),
    "kill": ("one killed: down for all", 2.5, "s"),
    "leave": ("one leaves: left for all, never down", 0.5, "s"),
    "pause": ("one stands still and goes on: others wrongly down", 0, "nodes"),
    "mass": ("three tenths killed: the rest agree", 10, "s"),
    "partition": ("cut in halves and mended: all agree again", None, "s"),
}


def measure(bench, name):
    what, goal, unit = ROWS[name]
    row = {"row": name, "what": what, "unit": unit, "goal": goal, "load": os.getloadavg()[0]}
    try:
        if name not in ("start", "partition"):
            bench.ready()
        found = getattr(bench, name)()
    except (Lost, OSError) as trouble:
        bench.stop()
        return {**row, "measured": None, "met": False, "trouble": str(trouble)}
    if "skipped" in found:
        return {**row, "measured": None, "met": None, **found}
    measured = found.pop("measured")
    median = round(statistics.median(measured), 3)
    row.update(measured=median, worst=max(measured), met=found.pop("met", True) and (goal is None or median <= goal))
    return {**row, **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--kithd", default=str(Path(__file__).parents[1] / "target/release/kithd"))
    parser.add_argument("--repeat", type=int, default=3, help="runs of start, kill, leave, mass and partition")
    parser.add_argument("--rest", type=float, default=60, help="seconds over which processor time is measured")
    parser.add_argument("--pause", type=float, default=60, help="seconds for which a node stands still")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown or not 10 <= options.nodes <= 250:
        parser.error(f"no row is called {unknown[0]}" if unknown else "from 10 to 250 nodes")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bench, rows = Bench(options), []
    try:
        for name in [name for name in ROWS if name in options.rows or not options.rows]:
            row = measure(bench, name)
            rows.append(row)
            verdict = {True: "met", False: "MISSED", None: "skipped"}[row["met"]]
            figures = [row["measured"], row.get("worst"), row["goal"]]
            shown = "".join("       -" if figure is None else f"{figure:8.2f}" for figure in figures)
            print(f"{name:10}{shown}  {row['unit']:12} {verdict:8} {row.get('trouble', row['what'])}", file=sys.stderr)
    finally:
        bench.stop()
    print(json.dumps({"nodes": options.nodes, "cores": os.cpu_count(), "rows": rows}, indent=1))
    return int(any(row["met"] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
