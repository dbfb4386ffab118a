"""What a peer that gives nothing can make `swarm` keep, read and send."""

import os
import select
import socket
import struct
import time
from pathlib import Path

from clients import Swarm
from harness import MIB, SOON, Case, Memory, create, fill, seeded, swarm
from peer import BLOCK, EXTENDED, EXTENSION, FAST, INTERESTED, PIECE, REQUEST, UNCHOKE, Peer, dial, message, words


class CostsOfPeers(Case):
    on_disk = True
    scratch_bytes = 512 * MIB

    def prepare(self, length, piece, *args):
        self.content = self.scratch / "it.bin"
        if not self.content.exists():
            fill(self.content, length, seeded(length))
        self.meta = create(self.content, self.scratch / "it.meta", "-f", "-l", piece)
        self.info_hash = bytes.fromhex(swarm("show", self.meta, "--json").events[0]["info_hash_v1"])
        self.seed = self.start(Swarm.source(self.meta, self.scratch, *args))

    def peer(self, reserved=FAST | EXTENSION):
        return self.start(Peer(dial(self.seed.address), self.info_hash, reserved))

    def test_what_a_peer_leaves_unread_is_no_more_than_a_little(self):
        """Requests of a choked peer are refused one by one. It asks as fast as it is read, and leaves as much unread as it is let."""
        self.prepare(4 * MIB, "64KiB")
        self.peer().ping()
        memory = Memory(self.seed.pid)
        attacker = socket.socket()
        # What it leaves unread is to wait where it was sent from.
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        ip, port = self.seed.address.rsplit(":", 1)
        attacker.connect((ip, int(port)))
        attacker = self.start(Peer(attacker, self.info_hash)).socket
        attacker.setblocking(False)
        asks = message(REQUEST, words(0, 0, BLOCK)) * 16_000
        left, asked, heard = asks, 0, 0
        # It is refused in as many bytes as it asks with.
        while asked < 120 * MIB:
            unread = asked - heard
            ready = select.select([attacker] if unread > 2.3 * MIB else [], [attacker] if unread < 2.5 * MIB else [], [], 2)
            if not any(ready):
                break
            try:
                if ready[1]:
                    sent = attacker.send(left)
                    left, asked = left[sent:] or asks, asked + sent
                if ready[0]:
                    heard += len(attacker.recv(1 << 16))
            except OSError:
                break
        peak = memory.stop()
        print(f"  note    {self.id()}: {asked / MIB:.1f} MiB asked, {peak / MIB:.1f} MiB kept", flush=True)
        self.assertLess(peak, 16 * MIB)
        self.peer().ping()

    def test_requests_of_one_byte_have_little_read_from_the_disk(self):
        self.prepare(256 * MIB, "1MiB")
        with open(self.content, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        peer = self.peer()
        peer.send(INTERESTED)
        peer.hear_until(UNCHOKE)
        before = read_bytes(self.seed.pid)
        for piece in range(200):
            peer.send(REQUEST, words(piece, 500_000, 1))
        heard = 0
        while heard < 200:
            kind, payload = peer.hear()
            if kind == PIECE:
                piece, begin = struct.unpack(">II", payload[:8])
                self.assertEqual((begin, len(payload)), (500_000, 9))
                heard += 1
        read = read_bytes(self.seed.pid) - before
        print(f"  note    {self.id()}: {read / MIB:.1f} MiB read", flush=True)
        self.assertLess(read, 10 * MIB)

    def test_metadata_is_sent_no_faster_than_the_limit(self):
        """The hashes of 32,768 pieces, 655 kB, under a limit of 100 kB/s."""
        limit = 100_000
        self.content = self.scratch / "it.bin"
        with open(self.content, "wb") as file:
            file.truncate(512 * MIB)
        self.prepare(512 * MIB, "16KiB", "--max-up", f"{limit // 1000}KB/s")
        peer = self.peer()
        peer.send(EXTENDED, b"\0d1:md11:ut_metadatai3eee")
        hello = next(payload for kind, payload in iter(peer.hear, None) if kind == EXTENDED and payload[0] == 0)
        at = hello.index(b"11:ut_metadatai") + len(b"11:ut_metadatai")
        ours = int(hello[at : hello.index(b"e", at)])
        size_at = hello.index(b"13:metadata_sizei") + len(b"13:metadata_sizei")
        size = int(hello[size_at : hello.index(b"e", size_at)])
        self.assertGreater(size, 600_000)
        began = time.monotonic()
        for nth in range(-(-size // BLOCK)):
            ask = b"d8:msg_typei0e5:piecei%dee" % nth
            peer.send(EXTENDED, bytes([ours]) + ask)
        came = 0
        while came < 300_000:
            kind, payload = peer.hear(SOON)
            if kind == EXTENDED and payload[0] == 3:
                came += len(payload)
        # What has come at most by then: what the limit lets pass, a burst of a tenth of a second, and the piece that is under way.
        passed = time.monotonic() - began
        self.assertLessEqual(came, limit * (passed + 0.1) + 2 * BLOCK, f"{came} bytes in {passed:.2f} s")


def read_bytes(pid):
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    raise AssertionError("the system does not say what is read")
