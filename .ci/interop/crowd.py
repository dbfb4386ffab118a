#!/usr/bin/env python3
"""Many connections to one address that do a little and then nothing. usage: crowd.py ADDRESS SOURCE COUNT KIND INFO_HASH

SOURCE is the address that they come from. KIND is one of
  half      a part of the handshake
  again     the same, and whoever is closed comes again
  silent    the handshake and nothing else
  idle      interested, and asks for nothing
  unread    asks for 200 blocks as soon as it may, and reads none

One line of JSON says when all have connected (`there`), and each second how many were opened and closed (`count`). It ends when it is
ended.
"""

import json
import select
import socket
import sys
import time

from peer import BLOCK, INTERESTED, REQUEST, UNCHOKE, handshake, message, words

AGAIN_AFTER = 0.05


class Crowd:
    def __init__(self, address, source, count, kind, info_hash):
        ip, port = address.rsplit(":", 1)
        self.to, self.source, self.kind, self.info_hash = (ip, int(port)), source, kind, info_hash
        self.poll, self.sockets, self.due = select.epoll(), {}, []
        self.opened = self.closed = self.connected = 0
        for _ in range(count):
            self.open()

    def open(self):
        connection = socket.socket()
        connection.setblocking(False)
        if self.kind == "unread":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        connection.bind((self.source, 0))
        connection.connect_ex(self.to)
        self.sockets[connection.fileno()] = connection
        self.poll.register(connection, select.EPOLLOUT)
        self.opened += 1

    def greeting(self):
        whole = handshake(self.info_hash, 0)
        if self.kind in ("half", "again"):
            return whole[:20]
        return whole if self.kind == "silent" else whole + message(INTERESTED)

    def step(self):
        for number, events in self.poll.poll(0.02):
            try:
                self.on_event(number, self.sockets[number], events)
            except OSError:
                self.gone(number)
        while self.due and self.due[0] <= time.monotonic():
            self.due.pop(0)
            self.open()

    def on_event(self, number, connection, events):
        if events & select.EPOLLOUT:
            connection.send(self.greeting())
            self.connected += 1
            self.poll.modify(number, select.EPOLLIN)
        elif not (data := connection.recv(1 << 16)):
            self.gone(number)
        elif self.kind == "unread" and message(UNCHOKE) in data:
            asked = (words(piece, 0, BLOCK) for piece in range(200))
            connection.send(b"".join(message(REQUEST, each) for each in asked))
            self.poll.unregister(number)

    def gone(self, number):
        self.sockets.pop(number).close()
        self.closed += 1
        if self.kind == "again":
            self.due.append(time.monotonic() + AGAIN_AFTER)


def main():
    address, source, count, kind, info_hash = sys.argv[1:]
    crowd = Crowd(address, source, int(count), kind, bytes.fromhex(info_hash))
    there, told = False, 0
    while True:
        crowd.step()
        if not there and crowd.connected >= int(count):
            there = True
            print(json.dumps({"event": "there"}), flush=True)
        if time.monotonic() - told > 1:
            told = time.monotonic()
            counts = {"opened": crowd.opened, "closed": crowd.closed, "open": len(crowd.sockets)}
            print(json.dumps({"event": "count", **counts}), flush=True)


if __name__ == "__main__":
    main()
