"""A peer that only listens: it connects, shakes hands and keeps a list of the pieces that the other side announces."""

import os
import socket
import struct
import threading

from harness import SOON

HAVE, BITFIELD = 4, 5


class Watcher:
    def __init__(self, address, info_hash):
        ip, port = address.rsplit(":", 1)
        self.announced = set()
        self.socket = socket.create_connection((ip, int(port)), SOON)
        peer_id = b"-ZZ0000-" + os.urandom(6).hex().encode()
        # Without the fast extension there are only bitfields and haves.
        self.socket.sendall(b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(info_hash) + peer_id)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _exactly(self, length):
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def _read(self):
        try:
            self._exactly(68)
            while True:
                (length,) = struct.unpack(">I", self._exactly(4))
                message = self._exactly(length)
                if message[:1] == bytes([HAVE]):
                    self.announced.add(struct.unpack(">I", message[1:])[0])
                elif message[:1] == bytes([BITFIELD]):
                    bits = enumerate(message[1:])
                    self.announced |= {8 * i + b for i, byte in bits for b in range(8) if byte & 0x80 >> b}
        except OSError:
            pass
        finally:
            self.socket.close()

    def stop(self):
        """Waits for what still came, after the other side has ended."""
        self.thread.join(SOON)
        return self.announced
