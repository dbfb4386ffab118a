"""libtorrent as one peer in a process of its own, for `transfer.py`, `world.py` and `utp.py`:
`libtorrent_peer.py META FOLDER [--stay] [--rc4] [--utp] [--peer ADDRESS:PORT] [--listen ADDRESS:PORT]`.

It imports the library, says `ready`, and starts when it reads a line. It says `complete` when everything is there, and then ends,
or with `--stay` goes on seeding until it gets SIGTERM. With `--rc4` all connections are encrypted, with RC4 only; with `--utp` all are
over uTP.
"""

import signal
import sys

import libtorrent

# What libtorrent's authors set for hosts that send much, and: TCP without encryption, nobody to be found but by the
# tracker, no limits on a swarm where all are at one address.
SETTINGS = {
    **libtorrent.high_performance_seed(),
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": int(libtorrent.enc_policy.disabled),
    "out_enc_policy": int(libtorrent.enc_policy.disabled),
    "allow_multiple_connections_per_ip": True,
    "torrent_connect_boost": 255,
    "smooth_connects": False,
    "alert_mask": libtorrent.alert.category_t.status_notification | libtorrent.alert.category_t.error_notification,
}


RC4_ONLY = {
    "in_enc_policy": int(libtorrent.enc_policy.forced),
    "out_enc_policy": int(libtorrent.enc_policy.forced),
    "allowed_enc_level": int(libtorrent.enc_level.rc4),
    "prefer_rc4": True,
}

# The buffers are what it is quickest with where nothing is in the way: a megabyte, as above, loses much there.
UTP_ONLY = {
    "recv_socket_buffer_size": 4 << 20,
    "send_socket_buffer_size": 4 << 20,
    "enable_incoming_utp": True,
    "enable_outgoing_utp": True,
    "enable_incoming_tcp": False,
    "enable_outgoing_tcp": False,
}


def main(meta, folder, *options):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print("ready", flush=True)
    sys.stdin.readline()
    listen = {"listen_interfaces": options[-1]} if "--listen" in options else {}
    encryption = RC4_ONLY if "--rc4" in options else {}
    transport = UTP_ONLY if "--utp" in options else {}
    session = libtorrent.session({**SETTINGS, **encryption, **transport, **listen})
    params = libtorrent.load_torrent_file(meta)
    params.save_path = folder
    params.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    if "--peer" in options:
        ip, port = options[options.index("--peer") + 1].rsplit(":", 1)
        params.peers = [(ip, int(port))]
    torrent = session.add_torrent(params)
    while not torrent.status().is_seeding:
        session.wait_for_alert(20)
        session.pop_alerts()
    print("complete", flush=True)
    if "--stay" in options:
        signal.pause()
    # Dropping the session waits until everything is written.


main(*sys.argv[1:])
