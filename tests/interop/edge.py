"""One connection with a node: the socket, its frames, and what either end of an edge has to do."""

import os
import socket
import time

import kith
from kith import Head, Tail, View, decode, encode, frame, own_record

# For what a quiet machine does in a second or two: long enough for one that does ten other things.
SOON = 60
# Between two looks, and far below the second in which a node wants to hear of its neighbour.
GLANCE = 0.2


class Ended(Exception):
    """The node has ended its direction of the connection."""


def now():
    """Unix seconds."""
    return int(time.time())


def clock():
    """Unix milliseconds."""
    return int(time.time() * 1000)


class Line:
    """Bytes in frames, whole however they arrive."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = b""

    def send(self, data):
        self.socket.settimeout(SOON)
        self.socket.sendall(data)

    def bytes(self, count, patience=SOON):
        """So many bytes, or None if they have not all come by then: what has come is kept."""
        deadline = time.monotonic() + patience
        while len(self.held) < count:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self.socket.recv(65_536)
            except TimeoutError:
                return None
            except ConnectionResetError:
                more = b""
            if not more:
                raise Ended
            self.held += more
        return self.held[:count]

    def take(self, count):
        taken = self.bytes(count)
        assert taken is not None, f"nothing came for {SOON} s"
        self.held = self.held[count:]
        return taken

    def frame(self, patience=SOON):
        header = self.bytes(4, patience)
        if header is None or self.bytes(4 + int.from_bytes(header, "big"), patience) is None:
            return None
        return self.take(4 + int.from_bytes(header, "big"))[4:]

    def rest(self):
        """All bytes up to the end."""
        try:
            while self.bytes(len(self.held) + 1) is not None:
                pass
        except Ended:
            return self.held
        raise AssertionError(f"the end did not come for {SOON} s")


class Edge:
    """What both ends share. `direction` is the byte of one's own messages."""

    direction = 0

    def __init__(self, line, session, me):
        self.line, self.session, self.me = line, session, me
        self.view = View(me.network)
        self.view.merge(me.record)
        self.payloads = kith.Payloads()
        self.farewell, self.claim, self.lacking = None, None, []

    def say(self, name, value):
        self.line.send(frame(self.session.seal(encode(self.direction, name, value))))

    def hear(self, patience=SOON):
        """Takes the messages of the next record, if it comes in time; gives back their names."""
        record = self.line.frame(patience)
        if record is None:
            return []
        names = []
        for name, value in decode(3 - self.direction, self.session.open(record)):
            names.append(name)
            self.take(name, value)
        return names

    def until(self, what, look):
        """Looks until there is something, and lives on meanwhile; gives back what it was."""
        deadline = time.monotonic() + SOON
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what}: not within {SOON} s"
            self.live()

    def leave(self, reason):
        self.say("Goodbye", reason)
        self.line.socket.shutdown(socket.SHUT_WR)
        self.line.rest()
        self.line.socket.close()

    def learn(self, news):
        for kind, item in news["items"]:
            if kind == "record":
                self.view.merge(item)
            else:
                kith.check(kind, item, self.me.network)
        lacking = [offer["node"] for offer in news["announcements"] if self.view.lacks(offer)]
        self.lacking += [node for node in lacking if node not in self.lacking]

    def news(self, *items):
        """These items, and what is lacking in return."""
        lacking, self.lacking = self.lacking, []
        return {**kith.NOTHING, "items": list(items), "want": [(node, "all") for node in lacking]}


class Node:
    """What this client says of itself."""

    def __init__(self, network, key, label, at):
        self.identity, self.static = kith.Identity(os.urandom(32)), os.urandom(32)
        self.network, self.key, self.label, self.at = network, key, label, at
        self.record = own_record(self.identity, network, label, at)

    def publish(self, **changes):
        record = {**self.record, "version": self.record["version"] + 1, **changes}
        self.record = kith.signed("record", record, self.identity)
        return self.record


class TailEdge(Edge):
    """Dials a node, and asks."""

    direction = 1

    def __init__(self, me, at, cipher, purpose="overlay"):
        host, port = at.rsplit(":", 1)
        line = Line(socket.create_connection((host, int(port)), SOON))
        begin = kith.preamble(cipher)
        tail = Tail(me.identity, me.static, me.network, me.key, begin)
        line.send(begin + frame(tail.first()))
        answer, self.remote, session = tail.finish(line.frame(), now())
        line.send(frame(answer))
        super().__init__(line, session, me)
        self.answers, self.seq, self.answered = {}, 0, None
        self.requests, self.open, self.outcomes = 0, set(), {}
        hello = {"record": me.record, "clock": clock(), "purpose": purpose, "dialled": kith.address(at)}
        welcome = self.ask("Hello", hello, "Welcome")
        assert welcome["record"]["id"] == self.remote, "welcomed by another node than the one that proved its key"
        self.view.merge(welcome["record"])
        self.head, self.watches = welcome["record"], 0

    def ask(self, name, value, answer):
        self.say(name, value)
        while answer not in self.answers:
            assert self.hear(), f"no {answer} for {name} within {SOON} s"
        return self.answers.pop(answer)

    def take(self, name, value):
        if name == "Goodbye":
            self.farewell = value
        elif name == "News":
            self.learn(value)
            self.watches -= 1
            if self.watches == 0:
                self.watches = 2
                self.say("Watch", {})
                self.say("Watch", {})
        elif name == "Ack":
            # Not every Push has one of its own: the next heartbeat's answer does for it.
            self.learn(value)
        elif name in ("Response", "Piece"):
            if name == "Response" and (value["id"] not in self.open or value["id"] in self.payloads.coming):
                raise kith.Refused("unexpected")
            whole = self.payloads.begin(value) if name == "Response" else self.payloads.add(value)
            if whole:
                self.open.remove(whole["id"])
                self.outcomes[whole["id"]] = whole["outcome"], whole["payload"]
        else:
            self.answers[name] = value

    def request(self, service, payload, remaining=60_000, depth=0):
        """The first message of a request; its number, and the pieces that are still to be said."""
        self.requests += 1
        self.open.add(self.requests)
        first, rest = kith.pieces(payload)
        asked = {"id": self.requests, "service": service, "remaining": remaining, "depth": depth}
        self.say("Request", {**asked, "length": len(payload), "payload": first})
        return self.requests, [{"id": self.requests, "payload": piece} for piece in rest]

    def outcome(self, number):
        """How it went, and the payload."""
        while number not in self.outcomes:
            assert self.hear(), f"no answer to request {number} within {SOON} s"
        return self.outcomes.pop(number)

    def live(self):
        """A heartbeat, and what news come in the meantime; what they announce is asked for."""
        self.beat()
        self.hear(GLANCE)
        if self.lacking:
            self.say("Push", self.news())

    def beat(self):
        self.seq += 1
        sent = time.monotonic()
        statement = {"digest": self.view.digest()[:16], "ages": self.claim or []}
        # It arms two, whatever there was.
        self.watches = 2
        said = self.ask("Heartbeat", {"seq": self.seq, "statement": statement, "echo": self.answered}, "Heartbeat")
        assert said["seq"] == self.seq, "another heartbeat's answer"
        self.answered = self.seq
        # This client has one neighbour: what that one held when it answered, all within one hop have held.
        agrees = said["statement"]["digest"] == self.view.digest()[:16]
        self.claim = [int((time.monotonic() - sent) * 10) + 1] if agrees else None
        return said

    def compare(self):
        """Learns by `Sync` what the node has otherwise."""
        first, mine = 0, self.view.entries()
        while first < 256:
            buckets = [(number, state) for number, state in self.view.buckets() if number >= first]
            differences = self.ask("Sync", {"first": first, "buckets": buckets}, "Differences")
            self.lacking += [short for short, state in differences["entries"] if (short, state) not in mine]
            first = differences["last"] + 1
        self.say("Push", self.news())

    def publish(self, **changes):
        record = self.me.publish(**changes)
        self.view.merge(record)
        self.say("Push", self.news(("record", record)))
        self.beat()


class HeadEdge(Edge):
    """Is dialled by a node, and answers."""

    direction = 2

    def __init__(self, me, listener):
        listener.settimeout(SOON)
        line = Line(listener.accept()[0])
        head = Head(me.identity, me.static, me.network, [me.key])
        self.begin = line.take(8)
        assert self.begin[:4] == b"kith"
        line.send(frame(head.first(self.begin, line.frame(), now())))
        self.remote, session = head.third(line.frame(), now())
        super().__init__(line, session, me)
        self.tail, self.watches, self.beats, self.pushes, self.syncs = None, 0, 0, 0, 0
        self.last, self.services, self.served = 0, {}, 0
        while self.tail is None:
            assert self.hear(), f"no Hello within {SOON} s"

    def take(self, name, value):
        if name == "Hello":
            assert value["record"]["id"] == self.remote, "introduced as another node than the one that proved its key"
            self.tail, self.dialled = value["record"], value["dialled"]
            self.view.merge(self.tail)
            self.say("Welcome", {"record": self.me.record, "clock": clock()})
        elif name == "Heartbeat":
            self.beats += 1
            self.watches = 2
            self.stated = value["statement"]["digest"]
            statement = {"digest": self.view.digest()[:16], "ages": []}
            self.say("Heartbeat", {"seq": value["seq"], "statement": statement})
        elif name == "Watch":
            self.watches = min(self.watches + 1, 2)
        elif name == "Eager":
            # Whatever it has to say it says at once.
            pass
        elif name == "Push":
            self.pushes += 1
            self.learn(value)
            self.say("Ack", self.news())
        elif name == "Sync":
            self.syncs += 1
            assert value["first"] == 0, "all buckets are compared at once, and it asks on"
            mine, theirs = dict(self.view.buckets()), dict(value["buckets"])
            differ = sorted(n for n in {*mine, *theirs} if mine.get(n) != theirs.get(n))
            entries = [entry for entry in self.view.entries() if entry[0][0] in differ]
            self.say("Differences", {"last": 255, "buckets": differ, "entries": entries})
        elif name == "Census":
            # It has no heads of its own to ask.
            digest = self.view.digest()
            if value["mode"] == "count":
                returns = "counts", {"digests": [(digest, 1)], "others": 0, "silent": [], "last": True}
            else:
                own = kith.testimony(self.me.identity, self.me.network, value["nonce"], digest, self.view.live())
                returns = "testimonies", {"testimonies": [own], "last": True}
            self.say("Census", {"nonce": value["nonce"], "returns": returns})
        elif name in ("Request", "Piece"):
            if name == "Request":
                assert value["id"] > self.last and value["depth"] <= 4, value
                self.last = value["id"]
            whole = self.payloads.begin(value) if name == "Request" else self.payloads.add(value)
            if whole:
                self.serve(whole)
        elif name == "Goodbye":
            self.farewell = value

    def serve(self, request):
        """Answers with what the service makes of the payload."""
        service, outcome, answer = self.services.get(request["service"]), ("refused", "unknown-service"), b""
        if service:
            outcome, answer = ("done", {}), service(request["payload"])
        first, rest = kith.pieces(answer)
        said = {"id": request["id"], "outcome": outcome, "length": len(answer), "payload": first}
        self.say("Response", said)
        for piece in rest:
            self.say("Piece", {"id": request["id"], "payload": piece})
        self.served += 1

    def live(self):
        self.hear(GLANCE)

    def publish(self, **changes):
        """Answers a `Watch` with this client's new record."""
        self.until("a Watch to answer", lambda: self.watches)
        self.watches -= 1
        record = self.me.publish(**changes)
        self.view.merge(record)
        self.say("News", self.news(("record", record)))

