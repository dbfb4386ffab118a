"""Rows of peer_wire.json, a collection of what hostile and broken peers say, each against a `swarm` of its own.

Whatever a row sends, afterwards the program still runs and still does its work. What else must follow is scripted here by
the row's name; a row without a script is a failure. Rows that differ or have no object yet are argued in docs/protocol.md.
"""

import json
import os
import re
import resource
import select
import socket
import threading
import time
from pathlib import Path

from clients import Libtorrent, Swarm
from harness import LOOPBACK, LOOPBACK6, MIB, ROOT, SOON, Case, Memory, create, fill, seeded, swarm, until
from peer import (
    ALLOWED_FAST, BITFIELD, BLOCK, EXTENDED, EXTENSION, FAST, HASHES, HASH_REJECT, HASH_REQUEST, HAVE, HAVE_ALL, HAVE_NONE,
    INTERESTED, PIECE, PORT, REJECT, REQUEST, SUGGEST, UNCHOKE, V2, Closed, MetadataLiar, Peer, Source, dial, handshake, lying, message,
    words,
)  # fmt: skip

CORPORA = os.environ.get("SWARM_CORPORA")
PIECE_LENGTH = 2 * BLOCK
# Not a multiple of eight, so that a bitfield has spare bits.
PIECES = 101
LENGTH = PIECES * PIECE_LENGTH - 5
BITFIELD_LENGTH = (PIECES + 7) // 8
# What handshakes that fail may take, with some patience; the engine's limit is 10 s.
HANDSHAKE_SECONDS = 20

SCRIPTS = {}
# Scripts that several rows share are run once.
PASSED = set()


def script(*names):
    """The function is what these rows ask for."""

    def register(function):
        SCRIPTS.update({name: function for name in names})
        return function

    return register


class PeerWire(Case):
    waits = 50
    host = LOOPBACK

    def setUp(self):
        super().setUp()
        self.target = None
        self.prepare(LENGTH)

    def prepare(self, length):
        self.content = fill(self.scratch / "it.bin", length, seeded(length))
        self.meta = create(self.content, self.scratch / "it.meta", "-f", "-l", f"{PIECE_LENGTH >> 10}KiB")
        self.info_hash = bytes.fromhex(swarm("show", self.meta, "--json").events[0]["info_hash_v1"])

    def seed(self, *args):
        self.target = self.start(Swarm.source(self.meta, self.scratch, *args, host=self.host))
        return self.target

    def get(self, *args):
        self.target = self.start(Swarm.downloader(self.meta, self.scratch / "copy", (), *args, host=self.host))
        self.target.wait_event("checked")
        return self.target

    def peer(self, reserved=FAST | EXTENSION):
        return self.start(Peer(dial(self.target.address), self.info_hash, reserved))

    def say(self, *messages, reserved=FAST | EXTENSION):
        """A peer that has said this, whether or not it was listened to."""
        peer = self.peer(reserved)
        try:
            for each in messages:
                peer.raw(each)
        except Closed:
            pass
        return peer

    def assert_taken(self, *messages):
        """The connection outlives these. Returns what was heard."""
        return self.say(*messages).ping()

    def assert_closes(self, *messages, reserved=FAST | EXTENSION):
        self.assertTrue(self.say(*messages, reserved=reserved).is_closed(), "the connection stands")

    def watch_memory(self):
        # The first connection of all may cost something.
        self.peer().ping()
        return anon(self.target.pid), Memory(self.target.pid)

    def assert_flat(self, watched, limit=MIB):
        before, memory = watched
        self.assertLess(memory.stop() - before, limit)

    def assert_unharmed(self):
        """It still runs, and does what it is there for."""
        self.assertTrue(self.target.is_running() or self.target.process.returncode == 0, str(self.target))
        if self.target.find("complete"):
            copy = self.scratch / "copy"
        elif "seed" in self.target.args:
            copy = self.scratch / "another copy"
            Swarm.downloader(self.meta, copy, [self.target.address], host=self.host).expect(0)
        else:
            copy = self.scratch / "copy"
            self.start(Swarm.source(self.meta, self.scratch, "--peer", self.target.address, host=self.host))
            self.target.expect(0)
        self.assert_same(self.content, copy / self.content.name)

    def block(self, piece, begin=0, length=BLOCK):
        return self.content.read_bytes()[piece * PIECE_LENGTH + begin :][:length]


def anon(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024


def bitfield(*ones, length=BITFIELD_LENGTH):
    bits = bytearray(length)
    for one in ones:
        bits[one // 8] |= 0x80 >> one % 8
    return message(BITFIELD, bytes(bits))


def extended(payload, kind=0):
    return message(EXTENDED, bytes([kind]) + payload)


FULL = bitfield(*range(PIECES))
ONE = bitfield(17)
ALL, NONE = message(HAVE_ALL), message(HAVE_NONE)


@script("alternate_have_all_have_none")
def _(test):
    test.get()
    test.assert_taken(ALL, NONE, ALL, NONE)


@script("alternate_have_all_have_none_seed")
def _(test):
    test.seed()
    # Two seeds part, so this may end after the first.
    test.say(ALL, NONE, ALL, NONE)


@script("bitfield_and_have_none")
def _(test):
    test.get()
    test.assert_taken(ONE, NONE)


@script("bitfield_and_have_all")
def _(test):
    test.get()
    test.assert_taken(ONE, ALL)


@script("full_bitfield_and_have_all")
def _(test):
    test.get()
    test.assert_taken(FULL, ALL)


@script("full_bitfield_and_have_none")
def _(test):
    test.get()
    test.assert_taken(FULL, NONE)


@script("multiple_bitfields")
def _(test):
    test.get()
    test.assert_taken(ONE, FULL)


@script("multiple_have_all")
def _(test):
    test.get()
    test.assert_taken(ALL, ALL)


@script("invalid_request", "reject_predictive_piece_requests")
def _(test):
    test.get()
    wanted = words(1, 0, BLOCK)
    test.assertIn((REJECT, wanted), test.assert_taken(message(INTERESTED), message(REQUEST, wanted)))
    # Without the fast extension there is no way to say no.
    heard = test.say(message(INTERESTED), message(REQUEST, wanted), message(99), reserved=0)
    with test.assertRaises(Closed):
        while heard.hear()[0] != PIECE:
            pass


@script("invalid_request2")
def _(test):
    test.seed()
    wanted = words(124134235, 0, BLOCK)
    test.assertIn((REJECT, wanted), test.assert_taken(message(INTERESTED), message(REQUEST, wanted)))


@script("large_message", "hugelen")
def _(test):
    for start in (test.seed, test.get):
        start()
        watched = test.watch_memory()
        for length in (BITFIELD_LENGTH + (1 << 20), 0x7FFFFFFF, 0xFFFFFFFF):
            test.assert_closes(words(length))
        test.assert_flat(watched)


@script("invalid_message", "have_all_invalid_msg")
def _(test):
    test.get()
    test.assert_closes(message(99))
    test.assert_closes(ALL, message(99))


@script("short_bitfield")
def _(test):
    test.get()
    test.assert_closes(bitfield(length=BITFIELD_LENGTH - 1))


@script("long_bitfield", "badbf")
def _(test):
    test.get()
    test.assert_closes(bitfield(length=BITFIELD_LENGTH + 1))
    test.assert_closes(bitfield(length=BITFIELD_LENGTH + 2))


@script("spare-bits")
def _(test):
    test.get()
    test.assert_taken(bitfield(*range(BITFIELD_LENGTH * 8)))


@script("unknown_info_hash")
def _(test):
    test.seed()
    connection = dial(test.target.address)
    connection.sendall(handshake(bytes(20)))
    with connection:
        test.assertEqual(heard_to_the_end(connection), b"")


def heard_to_the_end(connection, seconds=SOON):
    connection.settimeout(seconds)
    heard = b""
    try:
        while part := connection.recv(1 << 16):
            heard += part
    except ConnectionError:
        pass
    return heard


@script("v1_only_false_v2_claim_survives_metadata")
def _(test):
    test.get()
    test.say(ALL, reserved=FAST | EXTENSION | V2).ping()


@script(
    "v1_only_false_v2_claim_hash_request",
    "v1_only_false_v2_claim_unsolicited_hashes",
    "v1_only_false_v2_claim_hash_reject",
    "v1_only_honest_hash_request",
)
def _(test):
    test.get()
    for reserved in (FAST | EXTENSION, FAST | EXTENSION | V2):
        for kind in (HASH_REQUEST, HASHES, HASH_REJECT):
            test.assert_closes(ALL, message(kind, bytes(48)), reserved=reserved)


@script("hybrid_honest_v2", "hybrid_hash_request_unknown_root")
def _(test):
    lt = Libtorrent.needed()
    torrent = lt.create_torrent(lt.list_files(str(test.content)), PIECE_LENGTH)
    lt.set_piece_hashes(torrent, str(test.scratch))
    test.meta.write_bytes(lt.bencode(torrent.generate()))
    test.info_hash = bytes.fromhex(swarm("show", test.meta, "--json").events[0]["info_hash_v1"])
    test.seed()
    peer = test.say(message(INTERESTED), reserved=FAST | EXTENSION | V2)
    peer.hear_until(UNCHOKE)
    peer.send(REQUEST, words(3, 0, BLOCK))
    test.assertEqual(peer.hear_until(PIECE)[-1][1], words(3, 0) + test.block(3))
    peer.send(HASH_REQUEST, bytes(48))
    test.assertEqual(peer.hear_until(HASH_REJECT)[-1][1], bytes(48))
    peer.ping()


@script("reject_fast")
def _(test):
    test.seed()
    peer = test.peer()
    allowed = [int.from_bytes(payload, "big") for kind, payload in peer.ping() if kind == ALLOWED_FAST]
    # BEP 6 defines no set for IPv6.
    test.assertEqual(len(allowed) > 0, test.host.version == 4)
    other = next(piece for piece in range(PIECES) if piece not in allowed)
    wanted = [(piece, begin, BLOCK) for piece in (*allowed, other) for begin in (0, BLOCK)]
    wanted = [(piece, begin, len(test.block(piece, begin))) for piece, begin, _ in wanted]
    for each in wanted:
        peer.send(REQUEST, words(*each))
    answers = set()
    while len(answers) < len(wanted):
        kind, payload = peer.hear()
        if kind in (PIECE, REJECT):
            answers.add((kind, payload[:8]))
            test.assertNotEqual((kind, payload[:4]), (PIECE, words(other)))
    test.assertEqual({place for _, place in answers}, {words(*each[:2]) for each in wanted})
    test.assertEqual({kind for kind, _ in answers}, {PIECE, REJECT} if allowed else {REJECT})


@script("allowed_fast_survives_metadata", "suggested_piece_survives_metadata", "invalid_suggest")
def _(test):
    test.get()
    pieces = (0, PIECES - 1, PIECES, 0xFFFFFFFF)
    hints = [message(kind, words(piece)) for kind in (ALLOWED_FAST, SUGGEST) for piece in pieces]
    test.assert_taken(*hints, ALL, *hints)


@script("reject_suggest")
def _(test):
    test.get()
    peer = test.say(ALL, message(UNCHOKE))
    refused = []
    # Each block is asked for twice at most, for the first refusal may be for want of room; then it gives up on the peer.
    while asked := [payload for kind, payload in peer.ping() if kind == REQUEST] or later(peer):
        for block in asked:
            refused.append(block)
            test.assertLessEqual(refused.count(block), 2)
            peer.send(SUGGEST, block[:4])
            peer.send(REJECT, block)
    test.assertGreater(len(refused), 0)


def later(peer, seconds=3):
    """Requests that come with time alone, in longer than the engine's tick."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            kind, payload = peer.hear(left)
        except AssertionError:
            break
        if kind == REQUEST:
            return [payload]
    return []


@script("dont_have")
def _(test):
    test.get()
    peer = test.say(extended(b"d1:md11:lt_donthavei7eee"), ONE)
    hello = next(payload for kind, payload in peer.hear_until(EXTENDED) if kind == EXTENDED)
    theirs = int(re.search(rb"11:lt_donthavei(\d+)e", hello)[1])
    peer.hear_until(INTERESTED)
    peer.raw(extended(words(17), theirs))
    peer.hear_until(3)
    for odd in (b"", words(17), words(PIECES), words(0xFFFFFFFF), bytes(99)):
        peer.raw(extended(odd, theirs))
    peer.ping()


@script("extension_handshake", "ext-nest", "metabomb-2g", "metabomb-30MiB", "metabomb-neg")
def _(test):
    odd = [
        b"", b"d", b"de", b"le", b"i1e", b"d1:mlee", b"d1:mi7ee", b"d1:mdee", b"d1:md6:ut_pexi-1eee", b"d1:md6:ut_pex1:xee",
        b"d1:md6:ut_pexi256eee", b"d1:md0:i1eee", b"d1:md6:ut_pexi1e6:ut_pexi2eee", b"d1:v2:\xff\xfee", b"d4:reqqi-5ee",
        b"d4:reqqi0ee", b"d1:pi70000ee", b"d6:yourip3:abce", b"l" * 5000 + b"e" * 5000, b"d1:m" * 5000 + b"e" * 5000,
        b"d1:v9999999999:xe", os.urandom(999),
    ]  # fmt: skip
    sizes = (2**31 - 1, 31457280, -5, 0, 20_000_000_000, 10**40)
    odd += [b"d1:md11:ut_metadatai2ee13:metadata_sizei%dee" % size for size in sizes]
    for start in (test.seed, test.get):
        start()
        watched = test.watch_memory()
        heard = test.assert_taken(*map(extended, odd))
        # Nothing but its own handshake.
        test.assertEqual([payload[0] for kind, payload in heard if kind == EXTENDED], [0])
        test.assert_flat(watched)


@script("invalid_metadata_request")
def _(test):
    test.seed()
    peer = test.say(extended(b"d1:md11:ut_metadatai9eee"))
    hello = next(payload for kind, payload in peer.ping() if kind == EXTENDED and payload[0] == 0)
    ours = int(re.search(rb"11:ut_metadatai(\d+)e", hello)[1])
    answers = []
    for piece in (0, 999999):
        peer.send(EXTENDED, bytes([ours]) + b"d8:msg_typei0e5:piecei%dee" % piece)
    while len(answers) < 2:
        kind, payload = peer.hear()
        if kind == EXTENDED:
            answers.append(payload)
    test.assertTrue(answers[0].startswith(b"\x09d8:msg_typei1e5:piecei0e10:total_sizei"), answers[0])
    test.assertEqual(answers[1], b"\x09d8:msg_typei2e5:piecei999999ee")


@script("pex-flood")
def _(test):
    """Of what one message names, what can be a peer is dialled; a second one comes too soon; a huge one closes."""
    test.get()
    named, later = (test.start(Listener(test.host)) for _ in range(2))
    nobody = ("224.0.0.1", 80), ("0.0.0.0", 80), ("255.255.255.255", 80), ("127.0.0.1", 0)
    nobody = b"".join(socket.inet_aton(ip) + words(port)[2:] for ip, port in nobody)
    hello = next(payload for kind, payload in test.assert_taken() if kind == EXTENDED and payload[0] == 0)
    ours = int(re.search(rb"6:ut_pexi(\d+)e", hello)[1])
    peer = test.say(
        extended(b"d1:md6:ut_pexi1eee"),
        extended(exchange(nobody, named.packed * 40), ours),
        extended(exchange(b"", later.packed), ours),
        extended(exchange(nobody * 2_000, b""), ours),
    )
    peer.ping()
    test.assertTrue(named.is_dialled(SOON))
    test.assertFalse(later.is_dialled(1), "listened to the same peer twice within a minute")
    test.assert_closes(extended(exchange(nobody * 50_000, b""), ours))
    for listener in (named, later):
        listener.stop()


class Listener:
    """An address that somebody may dial."""

    def __init__(self, host):
        family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
        self.socket = socket.create_server((host.ip, 0), family=family)
        self.packed = socket.inet_pton(family, host.ip) + words(self.socket.getsockname()[1])[2:]

    def is_dialled(self, seconds):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def stop(self):
        self.socket.close()


def exchange(v4, more):
    """A message of the peer exchange: IPv4 addresses, and more of either kind."""
    v4, v6 = (v4, more) if len(more) % 18 == 0 and more else (v4 + more, b"")
    return b"d5:added%d:" % len(v4) + v4 + b"6:added6%d:" % len(v6) + v6 + b"e"


@script("meta-liar-first", "meta-liar-samesize")
def _(test):
    """A liar is there first, an honest seed comes 2 s later."""
    file = test.meta.read_bytes()
    right_size = len(file) - file.index(b"4:info") - len(b"4:info") - 1
    for size in (49_152, right_size, 31_457_280):
        liar = test.start(MetadataLiar(test.info_hash, size, test.host))
        copy = test.scratch / f"copy {size}"
        get = test.start(Swarm.downloader(test.info_hash.hex(), copy, [liar.address], "--no-dht", host=test.host))
        memory = Memory(get.pid)
        test.assertTrue(liar.asked.wait(SOON))
        # This is what is tried: the liar has had 2 s for itself.
        time.sleep(2)
        test.target = test.start(Swarm.source(test.meta, test.scratch, "--no-dht", "--peer", get.address, host=test.host))
        get.wait_event("metadata", 5)
        test.assertLess(memory.stop(), 32 * MIB)
        # `core/tests/metadata.rs` tries the limit to the millisecond, where it is kept: when they are sent.
        test.assertLessEqual(liar.excess(10), 0)
        get.wait_complete(SOON)
        test.assert_same(test.content, copy / test.content.name)
        liar.stop()


@script("dht_port_no_support")
def _(test):
    test.get()
    test.assert_taken(message(PORT, b"\x1a\xe1"))


@script("havespam")
def _(test):
    test.get()
    valid = [message(HAVE, words(i % PIECES)) for i in range(50_000)]
    test.assert_taken(b"".join(valid))
    test.assert_closes(b"".join(valid), message(HAVE, words(0xFFFFFFFF)))


def poisoned(test, share, liars):
    """A download from honest and lying seeds."""
    test.prepare(64 * MIB)
    content = test.content.read_bytes()
    liars = [Source(test.info_hash, lying(content, PIECE_LENGTH, share, number), test.host) for number in range(liars)]
    honest = test.start(Swarm.source(test.meta, test.scratch, "--max-up", "16MB/s", host=test.host))
    sources = [test.start(liar).address for liar in liars] + [honest.address]
    test.target = test.start(Swarm.downloader(test.meta, test.scratch / "copy", sources, host=test.host))
    test.target.expect(0)
    banned = {event["address"] for event in test.target.events if event["event"] == "peer_banned"}
    test.assertLessEqual(banned, {liar.address for liar in liars})
    test.assertGreater(len(banned), 0)
    complete = test.target.find("complete")
    test.assertLess(complete["bytes_down"], 1.1 * len(content), complete)


@script("poison-100%")
def _(test):
    poisoned(test, 1, 1)


@script("poison-2%")
def _(test):
    poisoned(test, 0.02, 2)


@script("stall+slow")
def _(test):
    test.prepare(64 * MIB)
    silent = lambda *_: None

    def slow(peer, piece, begin, length):
        for byte in message(PIECE, words(piece, begin) + bytes(length)):
            peer.raw(bytes([byte]))
            if source.ended.wait(1):
                raise Closed

    bad = [test.start(Source(test.info_hash, silent, test.host)) for _ in range(4)]
    bad += [test.start(Source(test.info_hash, slow, test.host)) for _ in range(2)]
    source = bad[-1]
    peers = [arg for source in bad for arg in ("--peer", source.address)]
    test.get(*peers)
    for each in bad:
        until(each.asked.is_set, SOON, "every source is asked")
    test.start(Swarm.source(test.meta, test.scratch, "--peer", test.target.address, host=test.host))
    test.target.expect(0, 30)


@script("slowloris", "handshake-bytewise")
def _(test):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    test.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    test.seed()
    begin = time.monotonic()
    connections = [dial(test.target.address) for _ in range(1000)]
    for connection in connections:
        connection.sendall(b"\x13Bit")
    bytewise = threading.Thread(target=byte_by_byte, args=(test, connections[0]), daemon=True)
    bytewise.start()
    # Others are served meanwhile.
    test.assert_unharmed()
    for connection in connections:
        left = begin + HANDSHAKE_SECONDS - time.monotonic()
        test.assertEqual(heard_to_the_end(connection, max(left, 0.001)), b"")
        connection.close()
    bytewise.join()


def byte_by_byte(test, connection):
    """The rest of the handshake, a byte each second."""
    try:
        for byte in handshake(test.info_hash)[4:]:
            time.sleep(1)
            connection.sendall(bytes([byte]))
    except OSError:
        pass


@script("request-flood")
def _(test):
    test.seed()
    peer = test.say(message(INTERESTED))
    peer.hear_until(UNCHOKE)
    watched = test.watch_memory()
    count, queue = 10_000, 2_000
    wanted = words(1, 0, BLOCK)
    peer.raw(message(REQUEST, wanted) * count)
    # Nothing is read until it has read all of that, as others may notice.
    test.assert_unharmed()
    answers = []
    while len(answers) < count:
        kind, _ = peer.hear()
        if kind in (PIECE, REJECT):
            answers.append(kind)
    test.assert_flat(watched, 8 * MIB)
    # What it had sent by then no longer waits in its queue.
    test.assertLess(answers.count(PIECE), queue + 1_000)


@script("piece-unrequested")
def _(test):
    test.get()
    peer = test.peer()
    peer.send(PIECE, words(0, 0) + bytes(BLOCK))
    peer.ping()
    counted = lambda: any(event.get("bytes_wasted") == BLOCK for event in list(test.target.events))
    until(counted, SOON, "the block is counted")


@script("piece-len-0")
def _(test):
    test.get()
    test.assert_closes(message(PIECE, words(0, 0)))
    test.assert_closes(message(PIECE, words(0, PIECE_LENGTH) + bytes(BLOCK)))
    test.assert_closes(message(PIECE, words(PIECES, 0) + bytes(BLOCK)))


@script("piece-overlong")
def _(test):
    test.get()
    test.assert_closes(message(PIECE, words(0, 0) + bytes(128 << 10)))


# There is no uTP.
NOTHING_TO_TRY = ("utp-syn-flood",)


def test_of(row):
    name, sent = row["id"], row["send"]

    def run(test):
        if name in NOTHING_TO_TRY:
            test.assertIn(f"`{name}`", (ROOT / "docs/protocol.md").read_text())
        elif name in SCRIPTS:
            once = (SCRIPTS[name], test.host)
            if once not in PASSED:
                SCRIPTS[name](test)
                test.assert_unharmed()
            PASSED.add(once)
        elif name.startswith("anacrolix-"):
            for start in (test.seed, test.get):
                start()
                test.say(bytes.fromhex(sent))
                test.assert_unharmed()
        else:
            test.fail(f"no script for {row}")

    run.__doc__ = sent
    return run


class PeerWireIpv6(PeerWire):
    host = LOOPBACK6


if CORPORA:
    for row in json.loads((Path(CORPORA) / "peer_wire.json").read_text()):
        setattr(PeerWire, f"test_{row['id']}", test_of(row))
else:
    PeerWire.test_rows = lambda test: test.skipTest("SWARM_CORPORA names no folder with peer_wire.json")
