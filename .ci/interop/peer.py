"""A peer that says what it is told to, right or wrong, and hears what comes back."""

import os
import random
import re
import select
import socket
import struct
import threading
import time

from harness import SOON

(CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL, PORT) = range(10)
(SUGGEST, HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST) = range(13, 18)
EXTENDED, HASH_REQUEST, HASHES, HASH_REJECT = range(20, 24)

FAST, V2, EXTENSION = 1 << 2, 1 << 4, 1 << 20
BLOCK = 16 << 10


def words(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


def message(kind, payload=b""):
    return words(1 + len(payload)) + bytes([kind]) + payload


def handshake(info_hash, reserved=FAST | EXTENSION):
    peer_id = b"-ZZ0000-" + os.urandom(6).hex().encode()
    return b"\x13BitTorrent protocol" + reserved.to_bytes(8, "big") + info_hash + peer_id


def dial(address, seconds=SOON):
    ip, port = address.rsplit(":", 1)
    return socket.create_connection((ip.strip("[]"), int(port)), seconds)


class Closed(Exception):
    """The other side has closed the connection."""


class Peer:
    """One connection that has shaken hands."""

    def __init__(self, connection, info_hash, reserved=FAST | EXTENSION):
        self.socket = connection
        self.buffer = b""
        self.raw(handshake(info_hash, reserved))
        self.theirs = self._exactly(68, SOON)

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            raise Closed from None

    def send(self, kind, payload=b""):
        self.raw(message(kind, payload))

    def _exactly(self, length, seconds):
        deadline = time.monotonic() + seconds
        while len(self.buffer) < length:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                part = self.socket.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"nothing heard within {seconds} s") from None
            except OSError:
                raise Closed from None
            if not part:
                raise Closed
            self.buffer += part
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data

    def hear(self, seconds=SOON):
        """The next message that is no keep-alive: its kind and its payload."""
        while True:
            (length,) = struct.unpack(">I", self._exactly(4, seconds))
            if length:
                data = self._exactly(length, seconds)
                return data[0], data[1:]

    def hear_until(self, kind, payload=None, seconds=SOON):
        """All messages up to the first of this kind, and with this payload if one is given."""
        heard = [self.hear(seconds)]
        while heard[-1][0] != kind or payload not in (None, heard[-1][1]):
            heard.append(self.hear(seconds))
        return heard

    def ping(self):
        """Makes sure that all that was sent has been read, and that the connection stands: a request that no peer can serve
        is rejected. Returns what was heard before."""
        impossible = words(0, 0, 0)
        self.send(REQUEST, impossible)
        return self.hear_until(REJECT, impossible)[:-1]

    def is_closed(self, seconds=SOON):
        """Whether the other side closes the connection within this time, whatever it says before."""
        try:
            while True:
                self.hear(seconds)
        except Closed:
            return True
        except AssertionError:
            return False

    def stop(self):
        self.socket.close()


class Source:
    """A scripted seed that listens: it claims everything, unchokes, and hands each request on to `answer(peer, piece, begin,
    length)` in the connection's own thread."""

    def __init__(self, info_hash, answer, host):
        self.info_hash, self.answer = info_hash, answer
        family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
        self.listener = socket.create_server((host.ip, 0), family=family)
        self.address = host.endpoint(self.listener.getsockname()[1])
        self.asked, self.ended = threading.Event(), threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.ended.is_set():
            if select.select([self.listener], [], [], 0.1)[0]:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()
        self.listener.close()

    def _serve(self, connection):
        try:
            peer = Peer(connection, self.info_hash)
            peer.send(HAVE_ALL)
            peer.send(UNCHOKE)
            while not self.ended.is_set():
                kind, payload = peer.hear(600)
                if kind == REQUEST:
                    self.asked.set()
                    self.answer(peer, *struct.unpack(">III", payload))
        except (Closed, AssertionError):
            connection.close()

    def stop(self):
        self.ended.set()


class MetadataLiar(Source):
    """Offers metadata of this size, and answers each request with zeros. `requests` are the times at which it was asked."""

    THEIR_ID = 7

    def __init__(self, info_hash, size, host):
        self.size, self.requests = size, []
        super().__init__(info_hash, None, host)

    def _serve(self, connection):
        try:
            peer = Peer(connection, self.info_hash)
            hello = b"d1:md11:ut_metadatai%dee13:metadata_sizei%dee" % (self.THEIR_ID, self.size)
            peer.send(EXTENDED, b"\x00" + hello)
            ours = None
            while not self.ended.is_set():
                kind, payload = peer.hear(600)
                if kind == EXTENDED and payload[0] == 0:
                    ours = int(re.search(rb"11:ut_metadatai(\d+)e", payload)[1])
                elif kind == EXTENDED and payload[0] == self.THEIR_ID:
                    self.requests.append(time.monotonic())
                    self.asked.set()
                    self._answer(peer, ours, int(re.search(rb"5:piecei(\d+)e", payload)[1]))
        except (Closed, AssertionError):
            connection.close()

    def _answer(self, peer, ours, piece):
        length = max(0, min(BLOCK, self.size - piece * BLOCK))
        head = b"d8:msg_typei1e5:piecei%de10:total_sizei%dee" % (piece, self.size)
        peer.send(EXTENDED, bytes([ours]) + head + bytes(length))

    def excess(self, per_second):
        """By how many requests any time was beyond this rate. What was sent in one second may arrive in another, when the
        machine is busy and either side waits: as much again is allowed for that, once, however long the time."""
        return max(
            last - first + 1 - per_second * (self.requests[last] - self.requests[first] + 2)
            for last in range(len(self.requests))
            for first in range(last + 1)
        )


def lying(content, piece_length, share, seed):
    """Answers with the content, but for this share of the blocks with one byte of it changed."""
    rng = random.Random(seed)

    def answer(peer, piece, begin, length):
        at = piece * piece_length + begin
        data = bytearray(content[at : at + length])
        if rng.random() < share:
            data[rng.randrange(length)] ^= 0xFF
        peer.send(PIECE, words(piece, begin) + data)

    return answer
