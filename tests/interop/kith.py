"""The protocol of kithd, written from its page `src/protocol/wire.md` and from nothing else of it.

    Tail, Head   the two ends of a handshake, on another Noise library than the node's
    Session      records, sealed and opened
    encode, decode, RECORD, ...   messages and what is signed, byte by byte
    View         what is known of the network, and its digest

It is there to show that the page suffices, and that the node does what the page says: short, and not fast.
"""

import hashlib
import re
import struct as packed
import time
import warnings

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseValueError

warnings.filterwarnings("ignore", message="One of ephemeral keypairs is already set")

CIPHERS = {1: "ChaChaPoly", 2: "AESGCM"}
VERSION = 1
REKEY_AFTER = 65_536
# Bytes of a payload in one message.
PIECE = 16_252
MAX_HANDSHAKE = 256
HALF_HOUR, DAY = 30 * 60, 24 * 3600

REASONS = (
    "heartbeat-timeout end-of-stream reset connection-refused unreachable connect-timeout name-not-resolved "
    "handshake-timeout not-kithd frame-too-large eof-in-frame frame-timeout malformed unexpected wrong-direction "
    "bad-signature other-network version-mismatch clock-skew self duplicate-identity replaced busy overloaded "
    "slow-reader too-many-pending too-many-peers banned not-allowed probe-over surplus local remote leaving internal "
    "network-key no-answer replayed low-order-point bad-record-tag identity-mismatch old-key "
    "too-fast evicted stale expired equivocation misbehaved log-full unanswered idle"
).split()

SMALL_ORDER = {
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
}

# The same for Ed25519.
SMALL_ORDER_IDS = {
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
}


class Refused(Exception):
    """What came is not taken, for this reason; `answer` is to be sent all the same."""

    def __init__(self, reason, answer=b""):
        super().__init__(reason)
        self.reason, self.answer = reason, answer


# Hashes, keys, signatures


def H(tag, *parts):
    state = hashlib.blake2s()
    for part in (tag.encode(), *parts):
        state.update(packed.pack("<Q", len(part)) + part)
    return state.digest()


def network_id(name):
    return H("kith network", name.encode())[:8]


def short_id(node):
    return node[:8]


class Identity:
    def __init__(self, seed):
        self.key = Ed25519PrivateKey.from_private_bytes(seed)
        self.id = self.key.public_key().public_bytes_raw()

    def sign(self, message):
        return self.key.sign(message)


def verify(node, message, signature):
    if is_small_order(node, SMALL_ORDER_IDS) or is_small_order(signature[:32], SMALL_ORDER_IDS):
        raise Refused("bad-signature")
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad-signature") from None


def is_small_order(point, among=SMALL_ORDER):
    return point[:31] + bytes([point[31] & 0x7F]) in among


# The handshake


def frame(message):
    return packed.pack(">I", len(message)) + message


def preamble(cipher, purpose=0, versions=(VERSION, VERSION)):
    return b"kith" + bytes([*versions, cipher, purpose])


def signed_link(network, static, expires):
    return b"kith link 1" + network + static + packed.pack("<Q", expires)


def proof(identity, network, static, expires):
    signature = identity.sign(signed_link(network, static, expires))
    return identity.id + packed.pack("<Q", expires) + signature


def check_proof(shown, network, static, now):
    if len(shown) != 104:
        raise Refused("malformed")
    node, expires = shown[:32], packed.unpack("<Q", shown[32:40])[0]
    if expires + HALF_HOUR < now or expires > now + DAY + HALF_HOUR:
        raise Refused("clock-skew")
    verify(node, signed_link(network, static, expires), shown[40:])
    return node


def noise(is_tail, begin, network, key, static, ephemeral=None):
    """The Noise library, told all it needs; `static` and `ephemeral` are secrets."""
    shaking = NoiseConnection.from_name(f"Noise_XXpsk0_25519_{CIPHERS[begin[6]]}_BLAKE2s".encode())
    shaking.set_as_initiator() if is_tail else shaking.set_as_responder()
    shaking.set_prologue(begin + network)
    shaking.set_psks(key)
    shaking.set_keypair_from_private_bytes(Keypair.STATIC, static)
    if ephemeral:
        shaking.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    shaking.start_handshake()
    multiply = shaking.noise_protocol.dh_fn.dh

    def careful(secret, public):
        if is_small_order(public.public_bytes_raw()):
            raise Refused("low-order-point")
        return multiply(secret, public)

    shaking.noise_protocol.dh_fn.dh = careful
    return shaking


def read(shaking, message):
    if len(message) > MAX_HANDSHAKE:
        raise Refused("frame-too-large")
    try:
        return bytes(shaking.read_message(message))
    except (InvalidTag, ValueError, NoiseValueError):
        raise Refused("network-key") from None


def public_of(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


class Tail:
    def __init__(self, identity, static, network, key, begin, ephemeral=None):
        self.identity, self.static, self.network, self.begin = identity, static, network, begin
        self.shaking = noise(True, begin, network, key, static, ephemeral)

    def first(self):
        return bytes(self.shaking.write_message())

    def finish(self, message, now):
        """Takes message 2; returns message 3, who is there, and the session."""
        state = self.shaking.noise_protocol.handshake_state
        payload = read(self.shaking, message)
        if not payload or payload[0] != VERSION:
            raise Refused("version-mismatch" if payload else "malformed")
        remote = check_proof(payload[1:], self.network, state.rs.public_bytes, now)
        mine = proof(self.identity, self.network, public_of(self.static), now + DAY)
        answer = bytes(self.shaking.write_message(mine))
        return answer, remote, Session(self.shaking)


class Head:
    def __init__(self, identity, static, network, keys, ephemeral=None):
        self.identity, self.static, self.network, self.keys = identity, static, network, keys
        self.ephemeral, self.shaking = ephemeral, None

    def first(self, begin, message, now):
        """Takes message 1; returns message 2."""
        if begin[6] not in CIPHERS:
            raise Refused("version-mismatch")
        if len(message) < 32:
            raise Refused("network-key")
        if is_small_order(message[:32]):
            raise Refused("low-order-point")
        for key in self.keys:
            shaking = noise(False, begin, self.network, key, self.static, self.ephemeral)
            try:
                if read(shaking, message) == b"":
                    self.shaking = shaking
                    break
            except Refused as refused:
                if refused.reason != "network-key":
                    raise
        else:
            raise Refused("network-key")
        if not begin[4] <= VERSION <= begin[5]:
            raise Refused("version-mismatch", bytes(self.shaking.write_message(bytes([0, VERSION, VERSION]))))
        mine = proof(self.identity, self.network, public_of(self.static), now + DAY)
        return bytes(self.shaking.write_message(bytes([VERSION]) + mine))

    def third(self, message, now):
        """Takes message 3; returns who is there, and the session."""
        state = self.shaking.noise_protocol.handshake_state
        payload = read(self.shaking, message)
        remote = check_proof(payload, self.network, state.rs.public_bytes, now)
        return remote, Session(self.shaking)


class Session:
    """Both directions' records, numbered and rekeyed apart."""

    def __init__(self, shaking):
        self.out = shaking.noise_protocol.cipher_state_encrypt
        self.inward = shaking.noise_protocol.cipher_state_decrypt

    def seal(self, plaintext):
        record = self.out.encrypt_with_ad(b"", plaintext)
        step(self.out)
        return record

    def open(self, record):
        try:
            plaintext = self.inward.decrypt_with_ad(b"", record)
        except (InvalidTag, ValueError):
            raise Refused("bad-record-tag") from None
        step(self.inward)
        return plaintext


def step(state):
    """The library counts; after so many records the key is the next one."""
    if state.n % REKEY_AFTER == 0:
        state.rekey()


# Values as bytes: each codec writes a value and reads it from a cursor


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Refused("malformed")
        self.at += count
        return self.data[self.at - count : self.at]


class Number:
    def __init__(self, size):
        self.size = size

    def write(self, value):
        return value.to_bytes(self.size, "little")

    def read(self, cursor):
        return int.from_bytes(cursor.take(self.size), "little")


U8, U16, U32, U64 = Number(1), Number(2), Number(4), Number(8)


class Raw(Number):
    def write(self, value):
        assert len(value) == self.size, value
        return value

    def read(self, cursor):
        return cursor.take(self.size)


class Bool:
    def write(self, value):
        return bytes([value])

    def read(self, cursor):
        value = U8.read(cursor)
        if value > 1:
            raise Refused("malformed")
        return bool(value)


class Text:
    def write(self, value):
        return U64.write(len(value.encode())) + value.encode()

    def read(self, cursor):
        try:
            return cursor.take(U64.read(cursor)).decode()
        except UnicodeDecodeError:
            raise Refused("malformed") from None


class Name(Text):
    """Of a service."""

    def read(self, cursor):
        name = super().read(cursor)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,63}", name):
            raise Refused("malformed")
        return name


class Bytes:
    def write(self, value):
        return U64.write(len(value)) + value

    def read(self, cursor):
        count = U64.read(cursor)
        if count > PIECE:
            raise Refused("malformed")
        return cursor.take(count)


class Sequence:
    def __init__(self, element, most):
        self.element, self.most = element, most

    def write(self, values):
        return U16.write(len(values)) + b"".join(map(self.element.write, values))

    def read(self, cursor):
        count = U16.read(cursor)
        if count > self.most:
            raise Refused("malformed")
        return [self.element.read(cursor) for _ in range(count)]


class Optional:
    def __init__(self, inner):
        self.inner = inner

    def write(self, value):
        return b"\0" if value is None else b"\1" + self.inner.write(value)

    def read(self, cursor):
        return self.inner.read(cursor) if Bool().read(cursor) else None


class Fields:
    """A dictionary with these fields, in this order."""

    def __init__(self, **fields):
        self.fields = fields

    def write(self, value):
        return b"".join(codec.write(value[name]) for name, codec in self.fields.items())

    def read(self, cursor):
        return {name: codec.read(cursor) for name, codec in self.fields.items()}


class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second

    def write(self, value):
        return self.first.write(value[0]) + self.second.write(value[1])

    def read(self, cursor):
        return self.first.read(cursor), self.second.read(cursor)


class Choice:
    """One of these: a pair of its name and its value."""

    def __init__(self, **variants):
        self.names, self.codecs = list(variants), list(variants.values())

    def write(self, value):
        number = self.names.index(value[0])
        return U32.write(number) + self.codecs[number].write(value[1])

    def read(self, cursor):
        number = U32.read(cursor)
        if number >= len(self.names):
            raise Refused("malformed")
        return self.names[number], self.codecs[number].read(cursor)


class Named:
    """One of these names."""

    def __init__(self, *names):
        self.names = names

    def write(self, name):
        return U32.write(self.names.index(name))

    def read(self, cursor):
        number = U32.read(cursor)
        if number >= len(self.names):
            raise Refused("malformed")
        return self.names[number]


ADDRESS = Choice(v4=Pair(Raw(4), U16), v6=Pair(Raw(16), U16))
PURPOSE = Named("overlay", "ring", "probe", "application")
REASON = Named(*REASONS)
RECORD = Fields(
    network=Raw(8), id=Raw(32), version=U64, issued=U32, incarnation=U64, state=Named("up", "left"),
    reach=Named("unproven", "proven", "never"), address=ADDRESS, label=Text(), tags=Sequence(Pair(Text(), Text()), 32),
    edges=Sequence(Raw(8), 16), round_trips=Sequence(U8, 16), signature=Raw(64),
)
WITNESS = Fields(
    network=Raw(8), subject=Raw(8), record=Raw(8), stage=Named("suspect", "down"), need=U8, observer=Raw(32),
    signature=Raw(64),
)
FORGET = Fields(network=Raw(8), subject=Raw(8), record=Raw(8), issued=U32, author=Raw(32), signature=Raw(64))
ROLL = Fields(
    digest=Raw(16), round=U32, step=Choice(call=Fields(), present=Fields(), all=Fields(age=U32, held=U32))
)
NEWS = Fields(
    items=Sequence(Choice(record=RECORD, witness=WITNESS, forget=FORGET), 128),
    announcements=Sequence(Fields(node=Raw(8), version=U32, verdict=Raw(4), suspected=Bool()), 700),
    want=Sequence(Pair(Raw(8), Named("all", "verdict", "suspicion")), 256),
    roll=Optional(ROLL),
)
NOTHING = {"items": [], "announcements": [], "want": [], "roll": None}
STATEMENT = Fields(digest=Raw(16), ages=Sequence(U8, 16))
MODE = Named("count", "prove")
TESTIMONY = Fields(id=Raw(32), digest=Raw(32), live=U32, signature=Raw(64))
RETURNS = Choice(
    counted=Fields(),
    refused=Fields(),
    counts=Fields(digests=Sequence(Pair(Raw(32), U32), 4), others=U32, silent=Sequence(Raw(8), 16), last=Bool()),
    testimonies=Fields(testimonies=Sequence(TESTIMONY, 120), last=Bool()),
)
REFUSAL = Named("unknown-service", "not-allowed", "overloaded", "too-large", "timed-out", "too-deep", "leaving")
FAILURE = Choice(
    service=Fields(), exit=U8, signal=U8,
    **{name: Fields() for name in ("not-started", "panicked", "timed-out", "too-large", "gone", "unsent")},
)
OUTCOME = Choice(done=Fields(), refused=REFUSAL, failed=FAILURE)
MORE = Fields(id=U64, payload=Bytes())
MESSAGES = {
    1: Choice(
        Hello=Fields(record=RECORD, clock=U64, purpose=PURPOSE, dialled=ADDRESS),
        Repurpose=PURPOSE,
        Heartbeat=Fields(seq=U32, statement=STATEMENT, echo=Optional(U32)),
        Watch=Fields(),
        Push=NEWS,
        Sync=Fields(first=U8, buckets=Sequence(Pair(U8, Raw(8)), 256)),
        Goodbye=REASON,
        Eager=Bool(),
        Census=Fields(nonce=Raw(16), mode=MODE, remaining=U32),
        Request=Fields(id=U64, service=Name(), remaining=U32, depth=U8, length=U32, payload=Bytes()),
        Piece=MORE,
    ),
    2: Choice(
        Welcome=Fields(record=RECORD, clock=U64),
        Busy=Fields(record=RECORD, hints=Sequence(ADDRESS, 16)),
        Heartbeat=Fields(seq=U32, statement=STATEMENT),
        News=NEWS,
        Ack=NEWS,
        Differences=Fields(last=U8, buckets=Sequence(U8, 256), entries=Sequence(Pair(Raw(8), Raw(8)), 900)),
        Goodbye=REASON,
        Census=Fields(nonce=Raw(16), returns=RETURNS),
        Response=Fields(id=U64, outcome=OUTCOME, length=U32, payload=Bytes()),
        Piece=MORE,
    ),
}
SIGNED = {"record": (RECORD, "id"), "witness": (WITNESS, "observer"), "forget": (FORGET, "author")}


def encode(direction, name, value):
    return frame(bytes([direction]) + MESSAGES[direction].write((name, value)))


def decode(direction, plaintext):
    """All messages of a record."""
    if not plaintext:
        raise Refused("malformed")
    cursor = Cursor(plaintext)
    while cursor.at < len(plaintext):
        body = Cursor(cursor.take(packed.unpack(">I", cursor.take(4))[0]))
        if U8.read(body) != direction:
            raise Refused("wrong-direction")
        message = MESSAGES[direction].read(body)
        if body.at != len(body.data):
            raise Refused("malformed")
        yield message


def pieces(payload):
    """A payload's beginning, and all that follows."""
    return payload[:PIECE], [payload[at : at + PIECE] for at in range(PIECE, len(payload), PIECE)]


class Payloads:
    """Payloads that come in pieces, which may take turns, with what their first message said besides."""

    def __init__(self):
        self.coming = {}

    def begin(self, value):
        if len(value["payload"]) > value["length"] or not value["payload"] and value["length"]:
            raise Refused("malformed")
        self.coming[value["id"]] = value
        return self.whole(value["id"])

    def add(self, piece):
        begun = self.coming.get(piece["id"])
        if begun is None:
            raise Refused("unexpected")
        if not 0 < len(piece["payload"]) <= begun["length"] - len(begun["payload"]):
            raise Refused("malformed")
        begun["payload"] += piece["payload"]
        return self.whole(piece["id"])

    def whole(self, number):
        """That of this number, if all of it has come."""
        begun = self.coming[number]
        return self.coming.pop(number) if len(begun["payload"]) == begun["length"] else None


def signed(kind, value, identity):
    codec, _ = SIGNED[kind]
    body = codec.write({**value, "signature": bytes(64)})[:-64]
    return {**value, "signature": identity.sign(f"kith {kind} 1".encode() + body)}


def check(kind, value, network):
    codec, signer = SIGNED[kind]
    if value["network"] != network:
        raise Refused("other-network")
    verify(value[signer], f"kith {kind} 1".encode() + codec.write(value)[:-64], value["signature"])
    return value


def testified(network, nonce, node, digest, live):
    return b"kith census 1" + network + nonce + node + digest + U32.write(live)


def testimony(identity, network, nonce, digest, live):
    signature = identity.sign(testified(network, nonce, identity.id, digest, live))
    return {"id": identity.id, "digest": digest, "live": live, "signature": signature}


def check_testimony(said, network, nonce):
    whole = testified(network, nonce, said["id"], said["digest"], said["live"])
    verify(said["id"], whole, said["signature"])
    return said


def address(text):
    host, port = text.rsplit(":", 1)
    return "v4", (bytes(map(int, host.split("."))), int(port))


def own_record(identity, network, label, at, **more):
    now = time.time()
    record = {
        "network": network, "id": identity.id, "version": int(now * 1000), "issued": int(now / 3600),
        "incarnation": int.from_bytes(identity.id[:7], "little"), "state": "up", "reach": "unproven",
        "address": address(at), "label": label, "tags": [("client", "python")], "edges": [], "round_trips": [],
    }
    return signed("record", {**record, **more}, identity)


class View:
    """Records of all nodes that are known. Nobody is accused here, so witnesses and forgets are not kept."""

    def __init__(self, network):
        self.network, self.records = network, {}

    def merge(self, record):
        check("record", record, self.network)
        rank = lambda record: (record["version"], H("kith record hash", RECORD.write(record)))
        held = self.records.get(record["id"])
        if held is None or rank(record) > rank(held):
            self.records[record["id"]] = record

    def digest(self):
        buckets = [[] for _ in range(256)]
        for node, record in sorted(self.records.items()):
            if record["state"] == "up":
                buckets[node[0]].append(H("kith record hash", RECORD.write(record)))
        return H("kith digest", *(H("kith digest bucket", *leaves) for leaves in buckets))

    def lacks(self, offer):
        """Whether this is offered of a node that is not known, or of a later record than is held."""
        held = next((record for node, record in self.records.items() if short_id(node) == offer["node"]), None)
        return held is None or 0 < (offer["version"] - held["version"]) % 2**32 < 2**31

    def live(self):
        return sum(record["state"] == "up" for record in self.records.values())

    def entries(self):
        """Short id and state of each entry."""
        state = lambda record: H("kith record hash", RECORD.write(record))[:8]
        return sorted((short_id(node), state(record)) for node, record in self.records.items())

    def buckets(self):
        joined = {}
        for short, state in self.entries():
            joined[short[0]] = joined.get(short[0], b"") + short + state
        return [(number, H("kith bucket", parts)[:8]) for number, parts in sorted(joined.items())]
