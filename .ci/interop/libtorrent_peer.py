"""One torrent in one session of libtorrent, until SIGTERM. usage: libtorrent_peer.py METAINFO|MAGNET FOLDER ADDR:0 [--no-pex] [--set NAME=VALUE]... [ADDR:PORT]...

Prints events as `swarm --json` does: `listening` with `port`, `peers` with their `count` whenever that changes, `connection` with
its `transport` and its `encryption`, once for each such pair, `complete`, and at the end `counters` of the session.
"""

import json
import signal
import sys

import libtorrent as lt

INTERVAL_MS = 50
# A flag of `peer_info` that the binding has no name for.
UTP_SOCKET = lt.peer_info.rc4_encrypted >> 2
COUNTERS = "net.recv_payload_bytes", "net.sent_payload_bytes", "utp.utp_payload_pkts_in", "utp.utp_payload_pkts_out"


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def encryption_of(peer):
    if peer.flags & lt.peer_info.rc4_encrypted:
        return "rc4"
    return "plaintext" if peer.flags & lt.peer_info.plaintext_encrypted else "none"


def tell_counters(session):
    session.post_session_stats()
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                return tell("counters", **{name: alert.values[name] for name in COUNTERS})


def main():
    meta, folder, listen, *peers = sys.argv[1:]
    settings, pex = {}, True
    if peers[:1] == ["--no-pex"]:
        peers, pex = peers[1:], False
    while peers[:1] == ["--set"]:
        name, value = peers[1].split("=")
        settings[name] = json.loads(value)
        peers = peers[2:]
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    session = lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            # It would wait four seconds for an answer.
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": lt.alert.category_t.error_notification,
            **settings,
        }
    )
    params = lt.parse_magnet_uri(meta) if meta.startswith("magnet:") else lt.load_torrent_file(meta)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if not pex:
        params.flags |= lt.torrent_flags.disable_pex
    torrent = session.add_torrent(params)
    for peer in peers:
        ip, port = peer.rsplit(":", 1)
        torrent.connect_peer((ip.strip("[]"), int(port)))
    told, connections, peers = set(), set(), 0
    while not ended:
        if "listening" not in told and session.listen_port():
            told.add("listening")
            tell("listening", port=session.listen_port())
        if (count := torrent.status().num_peers) != peers:
            peers = count
            tell("peers", count=count)
        for peer in torrent.get_peer_info():
            made = "utp" if peer.flags & UTP_SOCKET else "tcp", encryption_of(peer)
            if not peer.flags & (lt.peer_info.connecting | lt.peer_info.handshake) and made not in connections:
                connections.add(made)
                tell("connection", transport=made[0], encryption=made[1])
        if "complete" not in told and torrent.status().is_seeding:
            told.add("complete")
            tell("complete", bytes_down=torrent.status().total_payload_download)
        session.wait_for_alert(INTERVAL_MS)
        for alert in session.pop_alerts():
            print(alert.message(), file=sys.stderr, flush=True)
    tell_counters(session)
    session.remove_torrent(torrent)
    # Writes what it still holds, and waits for that.
    del torrent, session


if __name__ == "__main__":
    main()
