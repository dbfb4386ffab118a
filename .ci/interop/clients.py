"""Programs that take part in a swarm. Each class has `source` and `downloader`, which start it on loopback and return
something with `address`, `wait_complete(seconds)` and `stop()`."""

import shutil

from harness import BIN, SOON, Process, free_port, missing, until

try:
    import libtorrent
except ImportError:
    libtorrent = None


class Tracker(Process):
    """`swarm-tracker` on a port that the system chose."""

    def __init__(self, *args):
        super().__init__([BIN / "swarm-tracker", "--listen", "127.0.0.1:0", *args])
        self.url = self.wait_line("listening on ").split()[-1]


class SwarmProcess(Process):
    def __init__(self, *args):
        super().__init__([BIN / "swarm", *args, "--json", "--no-state", "--listen", "127.0.0.1:0"])

    @property
    def address(self):
        return self.wait_event("listening")["addresses"][0]

    def wait_complete(self, seconds):
        return self.wait_event("complete", seconds)


class Swarm:
    name = "swarm"

    @staticmethod
    def source(meta, folder, *args):
        process = SwarmProcess("seed", meta, folder, *args)
        process.wait_event("checked", 600)
        return process

    @staticmethod
    def downloader(meta, folder, peers=(), *args):
        peers = [arg for peer in peers for arg in ("--peer", peer)]
        return SwarmProcess("get", meta, "-o", folder, *peers, *args)


class LibtorrentSession:
    """One torrent in one session of libtorrent, in this process."""

    def __init__(self, meta, folder, peers=()):
        self.session = libtorrent.session(
            {
                "listen_interfaces": "127.0.0.1:0",
                "enable_dht": False,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "allow_multiple_connections_per_ip": True,
                "alert_mask": libtorrent.alert.category_t.error_notification,
            }
        )
        params = libtorrent.load_torrent_file(str(meta))
        params.save_path = str(folder)
        params.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
        self.torrent = self.session.add_torrent(params)
        self.address = f"127.0.0.1:{until(self.session.listen_port, SOON, 'libtorrent listens')}"
        for peer in peers:
            ip, port = peer.rsplit(":", 1)
            self.torrent.connect_peer((ip, int(port)))

    def wait_complete(self, seconds):
        try:
            until(lambda: self.torrent.status().is_seeding, seconds, "libtorrent has everything")
        except AssertionError as error:
            status = self.torrent.status()
            alerts = [alert.message() for alert in self.session.pop_alerts()][-5:]
            raise AssertionError(f"{error}: {status.state} {status.progress:.3f} {alerts}") from None
        return self

    def stop(self):
        if self.torrent is not None:
            self.session.remove_torrent(self.torrent)
            self.torrent = None
            # Ends the session, and waits for it.
            self.session = None


class Libtorrent:
    name = "libtorrent"

    @staticmethod
    def needed():
        if libtorrent is None:
            missing("libtorrent's Python binding is not installed")
        return libtorrent

    @classmethod
    def source(cls, meta, folder):
        cls.needed()
        return LibtorrentSession(meta, folder).wait_complete(300)

    @classmethod
    def downloader(cls, meta, folder, peers=()):
        cls.needed()
        folder.mkdir(parents=True, exist_ok=True)
        return LibtorrentSession(meta, folder, peers)


class Aria2Process(Process):
    def __init__(self, meta, folder, *args):
        if not (program := shutil.which("aria2c")):
            missing("aria2c is not installed")
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__(
            [
                # Else it keeps its lines back until there are 4 KiB of them.
                "stdbuf",
                "--output=L",
                program,
                "--no-conf",
                "--enable-dht=false",
                "--enable-dht6=false",
                "--bt-enable-lpd=false",
                "--disable-ipv6=true",
                "--file-allocation=none",
                "--summary-interval=0",
                f"--listen-port={self.port}",
                f"--dir={folder}",
                *args,
                meta,
            ]
        )

    def wait_complete(self, seconds):
        return self.expect(0, seconds)


class Aria2:
    name = "aria2"

    @staticmethod
    def source(meta, folder):
        process = Aria2Process(meta, folder, "--check-integrity=true", "--seed-ratio=0.0")
        process.wait_line(" SEED(", 300)
        return process

    @staticmethod
    def downloader(meta, folder, peers=()):
        # It has no way to be told of peers: it asks the tracker that the metainfo names.
        return Aria2Process(meta, folder, "--seed-time=0")
