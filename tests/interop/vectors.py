"""Makes and checks `tests/vectors/*.json`: whole handshakes and records with their keys, good ones and broken ones.

    python vectors.py           checks the files
    python vectors.py --write   makes them anew

The files were made by this program, which knows the protocol from `src/protocol/wire.md` alone and has a Noise library
of its own; `tests/vectors.rs` replays them on the node's code. So what both agree on is what the page says.
"""

import json
import pathlib
import sys

from noise.backends.default.keypairs import KeyPair25519

import kith
from kith import DAY, HALF_HOUR, Head, Identity, Refused, Session, Tail, frame

FOLDER = pathlib.Path(__file__).parent.parent / "vectors"
NOW = 1_800_000_000
NETWORK_NAME = "vectors"
NETWORK = kith.network_id(NETWORK_NAME)
KEY = bytes(range(32))
# Seed of the identity, static secret, ephemeral secret.
TAIL = [bytes([byte]) * 32 for byte in (0x11, 0x12, 0x13)]
HEAD = [bytes([byte]) * 32 for byte in (0x21, 0x22, 0x23)]
OTHER = [bytes([byte]) * 32 for byte in (0x31, 0x32, 0x33)]
# The last before and the first after each change of keys.
NUMBERS = [0, 1, 2, 65_535, 65_536, 65_537, 131_071, 131_072]


def tail(begin, key=KEY, network=NETWORK, identity=TAIL[0], static=TAIL[1]):
    return Tail(Identity(identity), static, network, key, begin, TAIL[2])


def head(network=NETWORK, static=HEAD[1]):
    return Head(Identity(HEAD[0]), static, network, [KEY], HEAD[2])


def party(seed, static, ephemeral):
    return {
        "seed": seed.hex(),
        "id": Identity(seed).id.hex(),
        "static_secret": static.hex(),
        "static_public": kith.public_of(static).hex(),
        "ephemeral_secret": ephemeral.hex(),
        "ephemeral_public": kith.public_of(ephemeral).hex(),
    }


def flip(message, at):
    changed = bytearray(message)
    changed[at] ^= 1
    return bytes(changed)


def weak(shaking):
    """Shows a static key of small order, where nothing else is wrong yet."""
    pair = shaking.noise_protocol.handshake_state.s
    shaking.noise_protocol.handshake_state.s = KeyPair25519(pair.private, pair.public, bytes(32))


def bad_proofs(static):
    """Payloads that are refused for the proof in them: of this static key, and by its owner, but for one thing."""
    mine, other = Identity(TAIL[0] if static == TAIL[1] else HEAD[0]), Identity(OTHER[0])
    point, expires = kith.public_of(static), NOW + DAY
    good = kith.proof(mine, NETWORK, point, expires)
    yield "proof that is over", kith.proof(mine, NETWORK, point, NOW - HALF_HOUR - 1), "clock-skew"
    yield "proof from the future", kith.proof(mine, NETWORK, point, expires + HALF_HOUR + 1), "clock-skew"
    signed_by_other = mine.id + kith.proof(other, NETWORK, point, expires)[32:]
    yield "proof signed by another identity", signed_by_other, "bad-signature"
    yield "proof for another static key", kith.proof(mine, NETWORK, kith.public_of(OTHER[1]), expires), "bad-signature"
    yield "proof for another network", kith.proof(mine, kith.network_id("other"), point, expires), "bad-signature"
    yield "proof with a changed signature", flip(good, 103), "bad-signature"
    # What a verification of the lax kind takes for anybody's signature of anything, and for this one in another form.
    for point in ("01" + "00" * 31, "ee" + "ff" * 30 + "7f"):
        shown = bytes.fromhex(point) + good[32:40] + b"\1" + bytes(63)
        yield f"identity of small order {point[:8]}", shown, "bad-signature"
    order = 2**252 + 27742317777372353535851937790883648493
    again = int.from_bytes(good[72:], "little") + order
    yield "signature with a second form of S", good[:72] + again.to_bytes(32, "little"), "bad-signature"
    yield "proof that is too short", good[:-1], "malformed"
    yield "proof that is too long", good + b"\0", "malformed"
    yield "no proof", b"", "malformed"


def first_acts(begin):
    good = tail(begin).first()
    yield "another network key", begin, tail(begin, key=b"\x99" * 32).first(), "network-key"
    yield "no network key", begin, tail(begin, key=bytes(32)).first(), "network-key"
    yield "another network name", begin, tail(begin, network=kith.network_id("other")).first(), "network-key"
    yield "bad tag", begin, flip(good, 47), "network-key"
    yield "changed ephemeral key", begin, flip(good, 0), "network-key"
    yield "changed preamble", flip(begin, 7), good, "network-key"
    yield "unknown cipher", begin[:6] + b"\x09" + begin[7:], good, "version-mismatch"
    yield "empty", begin, b"", "network-key"
    yield "cut in the key", begin, good[:31], "network-key"
    yield "cut in the tag", begin, good[:47], "network-key"
    yield "one byte more", begin, good + b"\0", "network-key"
    yield "too long", begin, good + bytes(209), "frame-too-large"
    yield "with a payload", begin, bytes(tail(begin).shaking.write_message(b"?")), "network-key"
    for point in sorted(kith.SMALL_ORDER):
        yield f"ephemeral key of small order {point.hex()[:8]}", begin, point + good[32:], "low-order-point"
    point = bytes(31) + b"\x80"
    yield "ephemeral key of small order in disguise", begin, point + good[32:], "low-order-point"


def second_acts(begin):
    one = tail(begin).first()

    def act(payload, change=lambda shaking: None):
        shaking = kith.noise(False, begin, NETWORK, KEY, HEAD[1], HEAD[2])
        shaking.read_message(one)
        change(shaking)
        return bytes(shaking.write_message(payload))

    good = head().first(begin, one, NOW)
    yield "bad tag of the static key", flip(good, 79), "network-key"
    yield "bad tag of the payload", flip(good, 200), "network-key"
    yield "changed ephemeral key", flip(good, 0), "network-key"
    yield "ephemeral key of small order", bytes(32) + good[32:], "low-order-point"
    yield "static key of small order", act(bytes([1]) + bytes(104), weak), "low-order-point"
    yield "empty", b"", "network-key"
    yield "cut in the ephemeral key", good[:31], "network-key"
    yield "cut in the static key", good[:79], "network-key"
    yield "cut in the payload", good[:200], "network-key"
    yield "too long", good + bytes(56), "frame-too-large"
    yield "no payload", act(b""), "malformed"
    yield "refusal of the version", act(bytes([0, 1, 1])), "version-mismatch"
    yield "another version than was offered", act(bytes([2]) + good[:104]), "version-mismatch"
    for name, shown, reason in bad_proofs(HEAD[1]):
        yield name, act(bytes([1]) + shown), reason


def third_acts(begin):
    one = tail(begin).first()
    two = head().first(begin, one, NOW)

    def act(payload, change=lambda shaking: None):
        shaking = kith.noise(True, begin, NETWORK, KEY, TAIL[1], TAIL[2])
        shaking.write_message()
        shaking.read_message(two)
        change(shaking)
        return bytes(shaking.write_message(payload))

    peer = tail(begin)
    peer.first()
    good = peer.finish(two, NOW)[0]
    yield "bad tag of the static key", flip(good, 47), "network-key"
    yield "bad tag of the payload", flip(good, 167), "network-key"
    yield "static key of small order", act(bytes(104), weak), "low-order-point"
    yield "empty", b"", "network-key"
    yield "cut in the static key", good[:47], "network-key"
    yield "cut in the payload", good[:167], "network-key"
    yield "too long", good + bytes(89), "frame-too-large"
    for name, shown, reason in bad_proofs(TAIL[1]):
        yield name, act(shown), reason


def at(session, number):
    """Both directions as they are before this record."""
    for state in (session.out, session.inward):
        for _ in range(number // kith.REKEY_AFTER):
            state.rekey()
        state.n = number


def sessions(begin):
    """A finished handshake: its messages, its hash, and a fresh pair of sessions."""
    one_end, other_end = tail(begin), head()
    one = one_end.first()
    two = other_end.first(begin, one, NOW)
    three, at_tail, tail_session = one_end.finish(two, NOW)
    at_head, head_session = other_end.third(three, NOW)
    assert (at_tail, at_head) == (Identity(HEAD[0]).id, Identity(TAIL[0]).id)
    hashes = {end.shaking.get_handshake_hash() for end in (one_end, other_end)}
    assert len(hashes) == 1
    return (one, two, three), hashes.pop(), {"tail": tail_session, "head": head_session}


def records(begin):
    for number in NUMBERS:
        for sender, receiver in (("tail", "head"), ("head", "tail")):
            _, _, ends = sessions(begin)
            at(ends[sender], number)
            at(ends[receiver], number)
            plaintext = f"{sender} {number}".encode() if number else b""
            record = ends[sender].seal(plaintext)
            assert ends[receiver].open(record) == plaintext
            yield {"from": sender, "number": number, "plaintext": plaintext.hex(), "record": record.hex()}


def bad_records(begin):
    _, _, ends = sessions(begin)
    mine, stale = ends["tail"], sessions(begin)[2]["tail"]
    zero = mine.seal(b"hello")
    one = mine.seal(b"again")
    stale.out.n = kith.REKEY_AFTER
    theirs = ends["head"].seal(b"hello")
    yield "flipped bit", 0, flip(zero, 0)
    yield "bad tag", 0, flip(zero, len(zero) - 1)
    yield "cut in the tag", 0, zero[:15]
    yield "one byte more", 0, zero + b"\0"
    yield "repeated", 1, zero
    yield "one left out", 0, one
    yield "one's own sent back", 0, theirs
    yield "not rekeyed", kith.REKEY_AFTER, stale.out.encrypt_with_ad(b"", b"late")


def make(cipher):
    begin = kith.preamble(cipher)
    messages, handshake_hash, ends = sessions(begin)
    payloads = [b"", b"\1" + kith.proof(Identity(HEAD[0]), NETWORK, kith.public_of(HEAD[1]), NOW + DAY),
                kith.proof(Identity(TAIL[0]), NETWORK, kith.public_of(TAIL[1]), NOW + DAY)]
    later = kith.preamble(cipher, 1, (2, 3))
    refusal = None
    try:
        head().first(later, tail(later).first(), NOW)
    except Refused as refused:
        refusal = refused.answer
    acts = [(1, *act) for act in first_acts(begin)]
    acts += [(2, name, begin, *act) for name, *act in second_acts(begin)]
    acts += [(3, name, begin, *act) for name, *act in third_acts(begin)]
    return {
        "about": "made by tests/interop/vectors.py, explained in src/protocol/wire.md; all bytes in hex",
        "noise": f"Noise_XXpsk0_25519_{kith.CIPHERS[cipher]}_BLAKE2s",
        "network": {"name": NETWORK_NAME, "id": NETWORK.hex(), "key": KEY.hex()},
        "now": NOW,
        "tail": party(*TAIL),
        "head": party(*HEAD),
        "preamble": begin.hex(),
        "prologue": (begin + NETWORK).hex(),
        "messages": [
            {"payload": payload.hex(), "message": message.hex()} for payload, message in zip(payloads, messages)
        ],
        "handshake_hash": handshake_hash.hex(),
        "keys": {"tail": ends["tail"].out.k.hex(), "head": ends["head"].out.k.hex()},
        "records": list(records(begin)),
        "other_version": {
            "preamble": later.hex(), "message_1": tail(later).first().hex(), "message_2": refusal.hex(),
            "reason": "version-mismatch",
        },
        "failing_acts": [
            {"act": act, "name": name, "preamble": started.hex(), "message": message.hex(), "reason": reason}
            for act, name, started, message, reason in acts
        ],
        "failing_records": [
            {"name": name, "from": "tail", "number": number, "record": record.hex(), "reason": "bad-record-tag"}
            for name, number, record in bad_records(begin)
        ],
    }


def reason_of(take):
    try:
        take()
    except Refused as refused:
        return refused.reason
    return "nothing"


def check(vectors):
    """Takes each broken part as whoever is to take it, and says how many there were."""
    begin = bytes.fromhex(vectors["preamble"])
    one, two = (bytes.fromhex(vectors["messages"][at]["message"]) for at in (0, 1))
    for case in vectors["failing_acts"]:
        message, started = bytes.fromhex(case["message"]), bytes.fromhex(case["preamble"])
        if case["act"] == 1:
            found = reason_of(lambda: head().first(started, message, NOW))
        elif case["act"] == 2:
            taker = tail(begin)
            assert taker.first() == one
            found = reason_of(lambda: taker.finish(message, NOW))
        else:
            taker = head()
            assert taker.first(begin, one, NOW) == two
            found = reason_of(lambda: taker.third(message, NOW))
        assert found == case["reason"], f"act {case['act']}, {case['name']}: {found}, not {case['reason']}"
    for case in vectors["failing_records"]:
        taker: Session = sessions(begin)[2]["head"]
        at(taker, case["number"])
        found = reason_of(lambda: taker.open(bytes.fromhex(case["record"])))
        assert found == case["reason"], f"record, {case['name']}: {found}"
    return len(vectors["failing_acts"]), len(vectors["failing_records"])


def main():
    for cipher, name in kith.CIPHERS.items():
        path = FOLDER / f"{name.lower()}.json"
        made = make(cipher)
        if "--write" in sys.argv[1:]:
            path.write_text(json.dumps(made, indent=1) + "\n")
        vectors = json.loads(path.read_text())
        for part, value in made.items():
            assert vectors[part] == value, f"{path.name}: {part} is not what this program makes"
        acts, broken = check(vectors)
        print(f"vectors: {path.name}: a handshake, {len(vectors['records'])} records, {acts} failing acts, "
              f"{broken} failing records")


if __name__ == "__main__":
    main()
