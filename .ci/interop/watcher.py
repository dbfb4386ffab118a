"""A peer that only listens: it connects, shakes hands and keeps a list of the pieces that the other side announces."""

import threading

from harness import SOON
from peer import BITFIELD, HAVE, Closed, Peer, dial


class Watcher:
    def __init__(self, address, info_hash):
        self.announced = set()
        # Without the fast extension there are only bitfields and haves.
        self.peer = Peer(dial(address), bytes.fromhex(info_hash), reserved=0)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            while True:
                kind, payload = self.peer.hear(600)
                if kind == HAVE:
                    self.announced.add(int.from_bytes(payload, "big"))
                elif kind == BITFIELD:
                    bits = enumerate(payload)
                    self.announced |= {8 * i + b for i, byte in bits for b in range(8) if byte & 0x80 >> b}
        except Closed:
            pass
        finally:
            self.peer.stop()

    def stop(self):
        """Waits for what still came, after the other side has ended."""
        self.thread.join(SOON)
        return self.announced
