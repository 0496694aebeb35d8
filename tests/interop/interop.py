"""A stranger among nodes: joins running ones, is joined, misbehaves once, and says what it saw.

    python interop.py path/to/kithd

It reads the page's examples and replays the test vectors, then takes part as tail and as head, asks and is asked, with
each cipher, in networks of its own with a key of their own, on loopback. It ends with 0 if all was as
`src/protocol/wire.md` says, and with a traceback if not.
"""

import json
import os
import pathlib
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time

import edge
import kith
import vectors
from edge import SOON, Ended, HeadEdge, Line, Node, TailEdge
from kith import frame, short_id

NETWORK = "interop"


def listening():
    return socket.create_server(("127.0.0.1", 0))


class Daemon:
    """A running kithd, in a directory that goes with it."""

    def __init__(self, kithd, key_file, label, *more):
        self.kithd, self.place = kithd, tempfile.TemporaryDirectory(prefix="kithd-interop-")
        state, self.log = pathlib.Path(self.place.name, "state"), pathlib.Path(self.place.name, "log")
        command = [kithd, "run", "--label", label, "--state-dir", state, "--listen", "127.0.0.1:0"]
        command += ["--network-name", NETWORK, "--network-key-file", key_file, *more]
        # This client does one thing at a time: on a busy machine it may be late.
        command += ["--heartbeat-timeout", "10s", "--discovery-dial-timeout", "10s"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KITHD_")}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=environment
            )
        try:
            ready = dict(word.split("=", 1) for word in self.first_line().split()[2:])
            self.id, self.address, self.socket = ready["id"], ready["listen"], ready["socket"]
        except BaseException as failure:
            self.__exit__(failure)
            raise

    def first_line(self):
        lines = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        return lines.get(timeout=SOON)

    def ask(self, *verb):
        asked = [self.kithd, *verb, "--format", "json", "--socket", self.socket]
        return json.loads(subprocess.run(asked, stdout=subprocess.PIPE, timeout=SOON).stdout)

    def peer(self, node, **wanted):
        """The row of a connection with this node that is so, closed ones too."""
        rows = self.ask("peers", "--all")["peers"]
        fitting = (row for row in rows if row["id"] == node.hex() and all(row[key] == wanted[key] for key in wanted))
        return next(fitting, None)

    def status_of(self, node):
        rows = self.ask("network")["nodes"]
        return next((row["status"] for row in rows if row["id"] == node.hex()), None)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.wait()
        if failure[0]:
            print("--- the node said last:", *self.log.read_text().splitlines()[-30:], sep="\n    ", file=sys.stderr)
        self.place.cleanup()


def page():
    """The examples of the page are read and written again, signatures hold, hashes are as told."""
    text = (pathlib.Path(__file__).parent / "../../src/protocol/wire.md").read_text()
    found = {}
    for block in text.split("```text\nexample ")[1:]:
        name, *lines = block.split("\n```")[0].splitlines()
        columns = (line.split("|")[0].strip() for line in lines)
        found[name] = b"".join(found[part[1:-1]] if part[0] == "{" else bytes.fromhex(part) for part in columns)
    network, view = kith.network_id("kith"), kith.View(kith.network_id("kith"))
    view.merge(kith.RECORD.read(kith.Cursor(found["record"])))
    messages = [data for name, data in found.items() if name[0].isupper()]
    for data in messages:
        [(name, value)] = kith.decode(data[4], data)
        assert kith.encode(data[4], name, value) == data, name
        for kind, item in value["items"] if name in ("Push", "News") else []:
            kith.check(kind, item, network)
        told = value["returns"][1] if name == "Census" and "returns" in value else {}
        for said in told.get("testimonies", []):
            kith.check_testimony(said, network, value["nonce"])
    assert view.digest().hex() in text and view.entries()[0][1].hex() in text and view.buckets()[0][1].hex() in text
    print(f"page: {len(messages)} messages read and written again, hashes as told")


def as_tail(daemon, key, cipher):
    """Dials the node, lives with it until both agree on one view, and takes its leave."""
    name = kith.CIPHERS[cipher]
    # Bound, but deaf: nobody else's node can be at the address that is told.
    with listening() as unused:
        me = Node(kith.network_id(NETWORK), key, f"python-{name}", "127.0.0.1:%d" % unused.getsockname()[1])
        line = TailEdge(me, daemon.address, cipher)
        assert line.remote.hex() == daemon.id
        label, host = line.head["label"], line.head["address"]
        print(f"tail, {name}: welcomed by {label} ({daemon.id[:8]}), which advertises port {host[1][1]}")
        first = line.beat()
        line.compare()
        row = line.until("a row in peers", lambda: daemon.peer(me.identity.id, state="established"))
        assert (row["label"], row["direction"], row["purpose"]) == (me.label, "incoming", "overlay"), row
        line.publish(edges=[short_id(line.remote)], round_trips=[1])
        line.until("one view", lambda: line.beat()["statement"]["digest"] == line.view.digest()[:16])
        assert first["statement"]["digest"] != line.view.digest()[:16], "the view has not changed"
        seen = line.until("agreement", lambda: (seen := daemon.ask("network"))["agreement"]["unanimous"] and seen)
        up = [node["label"] for node in seen["nodes"] if node["status"] == "up"]
        assert seen["digest"] == line.view.digest().hex() and sorted(up) == sorted([label, me.label]), seen
        print(f"tail, {name}: {line.seq} heartbeats answered; both of us agree on view {seen['digest'][:8]}")
        nonce = os.urandom(16)
        kind, found = line.ask("Census", {"nonce": nonce, "mode": "prove", "remaining": 5000}, "Census")["returns"]
        assert kind == "testimonies" and found["last"] and [one["id"] for one in found["testimonies"]] == [line.remote]
        said = kith.check_testimony(found["testimonies"][0], me.network, nonce)
        assert (said["digest"], said["live"]) == (line.view.digest(), 2), said
        again = line.ask("Census", {"nonce": nonce, "mode": "prove", "remaining": 5000}, "Census")["returns"]
        assert again[0] == "counted", again
        print(f"tail, {name}: the node has signed that it holds this view, with {said['live']} nodes up")
        line.publish(state="left")
        line.leave("leaving")
    closed = wait("the end", lambda: daemon.peer(me.identity.id, state="closed"))
    assert (closed["close_reason"], daemon.status_of(me.identity.id)) == ("leaving", "left"), closed
    print(f"tail, {name}: the node lists me as {me.label}, left, closed for {closed['close_reason']}")


def as_head(kithd, key_file, key):
    """Is dialled by a node that was told to, answers all it asks, and ends it."""
    with listening() as listener:
        at = "127.0.0.1:%d" % listener.getsockname()[1]
        me = Node(kith.network_id(NETWORK), key, "python-head", at)
        with Daemon(kithd, key_file, "dialler", "--connect", at) as daemon:
            line = HeadEdge(me, listener)
            cipher = kith.CIPHERS[line.begin[6]]
            assert line.remote.hex() == daemon.id and line.dialled == kith.address(at)
            print(f"head: dialled by {line.tail['label']} ({daemon.id[:8]}), which chose {cipher}")
            row = line.until("a row in peers", lambda: daemon.peer(me.identity.id, state="established"))
            assert (row["label"], row["direction"], row["address"]) == (me.label, "outgoing", at), row
            line.publish(tags=[("client", "python"), ("said", "by watch")])
            told = lambda: [node["tags"] for node in daemon.ask("network")["nodes"] if node["label"] == me.label]
            line.until("the record that was told by News", lambda: {"said": "by watch"}.items() <= told()[0].items())
            line.until("the edge in the node's record", lambda: short_id(me.identity.id) in edges_of(line))
            line.until("one view", lambda: line.beats > 1 and line.stated == line.view.digest()[:16])
            line.until("two Watch armed again", lambda: line.watches == 2)
            for flag in ("--census", "--prove"):
                counted = queue.Queue()
                threading.Thread(target=lambda: counted.put(daemon.ask("network", flag)), daemon=True).start()
                line.until("the end of the census", lambda: not counted.empty())
                census = counted.get()["census"]
                assert census["unanimous"] and census["answered"] == 2, census
                print(f"head: counted by the node's {flag}, {census['answered']} of {census['asked_live']}")
            as_responder(line, daemon, me)
            assert line.syncs and line.pushes, (line.syncs, line.pushes)
            print(f"head: answered {line.beats} heartbeats, {line.pushes} Push, {line.syncs} Sync; both hold one view")
            line.leave("local")
            closed = wait("the end", lambda: daemon.peer(me.identity.id, state="closed"))
            assert closed["close_reason"] == "remote", closed
            print(f"head: the node lists me as {closed['label']}, closed for {closed['close_reason']}")


def edges_of(line):
    return line.view.records[line.remote]["edges"]


def as_caller(daemon, key, cipher):
    """Asks the node, over an edge that is for nothing else, and then over one of the overlay."""
    me = Node(kith.network_id(NETWORK), key, "python-caller", "127.0.0.1:9")
    line = TailEdge(me, daemon.address, cipher, "application")
    row = line.until("a row in peers", lambda: daemon.peer(me.identity.id, state="established"))
    assert (row["direction"], row["purpose"]) == ("incoming", "application"), row
    # The pieces of the large one wait while a small one overtakes it.
    payload = os.urandom(100_000)
    large, rest = line.request("echo", payload)
    small, none = line.request("echo", b"")
    assert len(rest) == 6 and not none
    assert line.outcome(small) == (("done", {}), b"")
    for piece in rest:
        line.say("Piece", piece)
    assert line.outcome(large) == (("done", {}), payload)
    said = json.loads(line.outcome(line.request("identity", b"")[0])[1])
    assert (said["id"], said["label"]) == (daemon.id, line.head["label"]), said
    refusals = {}
    for service, more in (("nobody", {}), ("echo", {"depth": 5}), ("echo", {"remaining": 0})):
        (kind, why), nothing = line.outcome(line.request(service, b"?", **more)[0])
        assert kind == "refused" and not nothing, (kind, why)
        refusals[why] = refusals.get(why, 0) + 1
    # The rest of this one never comes.
    half, _ = line.request("echo", bytes(20_000), remaining=200)
    assert line.outcome(half) == (("refused", "timed-out"), b"")
    refusals["timed-out"] += 1
    counted = daemon.ask("status")["requests"]
    assert (counted["served"], counted["refused"]) == (3, refusals), counted
    print(f"caller: {len(payload)} bytes came back in pieces, a small request between; refused, counted: {refusals}")
    line.say("Repurpose", "overlay")
    line.until("the edge is the overlay's", lambda: daemon.peer(me.identity.id, purpose="overlay"))
    assert line.outcome(line.request("echo", b"still")[0]) == (("done", {}), b"still")
    line.requests -= 1
    line.request("echo", b"again")
    try:
        while True:
            line.hear()
    except Ended:
        assert line.farewell == "unexpected", line.farewell
    line.line.socket.close()
    print(f"caller: a number that had been there: the node said goodbye for {line.farewell}")


def as_responder(line, daemon, me):
    """A node asks this client, if it has a verb for that."""
    payload = os.urandom(50_000)
    line.services = {"reverse": lambda payload: payload[::-1]}
    verb = [daemon.kithd, "request", me.identity.id.hex(), "reverse", "--socket", daemon.socket, "-"]
    if subprocess.run([daemon.kithd, "request", "--help"], capture_output=True).returncode != 0:
        return print("head: not asked anything: this kithd has no verb for it")
    ended = queue.Queue()
    ask = lambda: ended.put(subprocess.run(verb, input=payload, capture_output=True, timeout=SOON))
    threading.Thread(target=ask, daemon=True).start()
    line.until("the answer", lambda: not ended.empty())
    said = ended.get()
    assert (said.returncode, said.stdout) == (0, payload[::-1]), said.stderr
    verb[3] = "nothing"
    threading.Thread(target=ask, daemon=True).start()
    line.until("the refusal", lambda: not ended.empty())
    said = ended.get()
    assert (said.returncode, said.stdout, line.served) == (1, b"", 2), said
    print(f"head: answered the node's request of {len(payload)} bytes, and refused one: {said.stderr.decode().strip()}")


def misbehaving(daemon, key, cipher):
    """A record with a bit flipped: one goodbye with its reason, sealed, and the end."""
    me = Node(kith.network_id(NETWORK), key, "python-liar", "127.0.0.1:9")
    line = TailEdge(me, daemon.address, cipher)
    watch = bytearray(line.session.seal(kith.encode(1, "Watch", {})))
    watch[-1] ^= 1
    line.line.send(frame(bytes(watch)))
    try:
        while True:
            line.hear()
    except Ended:
        assert line.farewell == "bad-record-tag", line.farewell
    line.line.socket.close()
    closed = wait("the end", lambda: daemon.peer(me.identity.id, state="closed"))
    assert closed["close_reason"] == "bad-record-tag", closed
    print(f"a flipped bit: the node said goodbye and lists me as closed for {closed['close_reason']}")


def refused(daemon, key):
    """Without the key not a byte; with it, and another version, which version it is."""
    host, port = daemon.address.rsplit(":", 1)
    stranger = Node(kith.network_id(NETWORK), bytes(32), "stranger", "127.0.0.1:9")
    member = Node(kith.network_id(NETWORK), key, "newer", "127.0.0.1:9")
    for me, versions, expected in ((stranger, (1, 1), None), (member, (2, 3), "version-mismatch")):
        begin = kith.preamble(1, versions=versions)
        tail = kith.Tail(me.identity, me.static, me.network, me.key, begin)
        line = Line(socket.create_connection((host, int(port)), SOON))
        line.send(begin + frame(tail.first()))
        if expected:
            try:
                tail.finish(line.frame(), edge.now())
                raise AssertionError("it was not refused")
            except kith.Refused as refusal:
                assert refusal.reason == expected, refusal
        assert line.rest() == b"", "bytes for a stranger"
        line.socket.close()
    counted = wait("both counted", lambda: both_counted(daemon.ask("status")["refused"]))
    print(f"strangers: without the key not a byte, with another version the refusal; counted {counted}")


def both_counted(refusals):
    seen = {reason: refusals.get(reason, 0) for reason in ("network-key", "version-mismatch")}
    return all(seen.values()) and seen


def wait(what, look):
    """Looks until there is something: each look asks the node."""
    deadline = time.monotonic() + SOON
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {SOON} s"
        time.sleep(edge.GLANCE)
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: interop.py path/to/kithd")
    kithd = os.path.abspath(sys.argv[1])
    sys.argv[1:] = []
    page()
    vectors.main()
    with tempfile.TemporaryDirectory(prefix="kithd-interop-") as place:
        key_file = os.path.join(place, "network.key")
        subprocess.run([kithd, "keygen", "--out", key_file], check=True, stderr=subprocess.DEVNULL)
        with open(key_file) as text:
            key = bytes.fromhex(next(line for line in text if not line.startswith("#")).strip())
        with Daemon(kithd, key_file, "node") as daemon:
            for cipher in kith.CIPHERS:
                as_tail(daemon, key, cipher)
            as_caller(daemon, key, 2)
            misbehaving(daemon, key, 2)
            refused(daemon, key)
        as_head(kithd, key_file, key)
    print("interop: all is as the page says")


if __name__ == "__main__":
    main()
