"""Clients that are asked over HTTP or a socket how they are: qBittorrent, rTorrent and rqbit; and libutp as a relay."""

import json
import os
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
import xmlrpc.client
from pathlib import Path

from harness import LOOPBACK, MIB, SOON, Process, free_port, missing, new_scratch, program, until

TOOLS = Path.home() / ".cache/swarm-ci/bin"


def tool(name):
    """A program that .ci/run builds."""
    folder = os.environ.get("SWARM_TOOLS", TOOLS)
    return shutil.which(name, path=folder) or missing(f"{name} is not built")


class AskedProcess(Process):
    """A program with a folder of its own that says how it is over HTTP."""

    def __init__(self, args, home, api_port):
        self.home, self.api = home, f"http://127.0.0.1:{api_port}"
        super().__init__(args, env={"HOME": str(home)})

    def ask(self, path, **form):
        """What it answers, asked with a form or without; None while it does not, or if that is no JSON."""
        body = urllib.parse.urlencode(form).encode() if form else None
        try:
            with urllib.request.urlopen(self.api + path, body, timeout=SOON) as answer:
                return json.load(answer)
        except (OSError, ValueError, urllib.error.HTTPError):
            return None

    def wait_complete(self, seconds):
        try:
            until(lambda: self.is_complete() or not self.is_running(), seconds, "it has everything")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self}") from None
        return self

    def stop(self):
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)


class QBittorrentProcess(AskedProcess):
    def __init__(self, meta, folder, transport, encryption):
        port, api_port, home = free_port(), free_port(), new_scratch(MIB)
        self.address = LOOPBACK.endpoint(port)
        config = home / "qBittorrent/config/qBittorrent.conf"
        config.parent.mkdir(parents=True)
        config.write_text(
            f"""[LegalNotice]
Accepted=true
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\LocalHostAuth=false
WebUI\\Port={api_port}
WebUI\\UseUPnP=false
[Network]
PortForwardingEnabled=false
[BitTorrent]
Session\\AddTorrentStopped=false
Session\\AddTrackersEnabled=false
Session\\BTProtocol={transport.upper()}
Session\\DHTEnabled=false
Session\\Encryption={1 if encryption == "require" else 2}
Session\\InterfaceAddress=127.0.0.1
Session\\LSDEnabled=false
Session\\MultiConnectionsPerIp=true
Session\\PeXEnabled=false
Session\\Port={port}
"""
        )
        args = [program("qbittorrent-nox"), f"--profile={home}", "--skip-dialog=true", f"--save-path={folder}", meta]
        super().__init__(args, home, api_port)

    def torrent(self):
        return next(iter(self.ask("/api/v2/torrents/info") or []), None)

    def is_complete(self):
        torrent = self.torrent()
        return torrent and torrent["progress"] == 1 and torrent["state"] in ("uploading", "stalledUP")

    def wait_complete_or_resume(self, seconds):
        """As `wait_complete`, but one that has stopped with an error is told to go on, as its user would. Whether it was."""
        until(lambda: self.is_complete() or (self.torrent() or {}).get("state") == "error", seconds, f"it has everything, or an error: {self}")
        has_failed = not self.is_complete()
        if has_failed:
            self.ask("/api/v2/torrents/resume", hashes="all")
        self.wait_complete(seconds)
        return has_failed

    def connections(self):
        """Flags as its list of peers shows them: P for uTP; E for RC4, e for an encrypted handshake."""
        torrent = self.torrent()
        peers = torrent and self.ask(f"/api/v2/sync/torrentPeers?hash={torrent['hash']}&rid=0")
        flags = [peer["flags"].split() for peer in (peers or {}).get("peers", {}).values() if peer["flags"]]
        return {("utp" if "P" in each else "tcp", "rc4" if "E" in each else "none") for each in flags}


class QBittorrent:
    connections = QBittorrentProcess.connections

    @staticmethod
    def source(meta, folder, transport, encryption):
        return QBittorrentProcess(meta, folder, transport, encryption).wait_complete(SOON)

    @staticmethod
    def downloader(meta, folder, peers, transport, encryption):
        # It is told of peers by the tracker.
        return QBittorrentProcess(meta, folder, transport, encryption)


class RTorrentProcess(Process):
    POLICIES = {"off": "none", "require": "allow_incoming,try_outgoing,require,require_RC4", "handshake": "allow_incoming,try_outgoing,require,prefer_plaintext"}

    def __init__(self, meta, folder, encryption):
        port, self.home = free_port(), new_scratch(MIB)
        self.address, self.socket = LOOPBACK.endpoint(port), self.home / "socket"
        policy = self.POLICIES[encryption]
        (self.home / "rc").write_text(
            f"""system.daemon.set = true
network.bind_address.set = 127.0.0.1
network.port_range.set = {port}-{port}
network.scgi.open_local = {self.socket}
directory.default.set = "{folder}"
dht.mode.set = disable
protocol.pex.set = no
protocol.encryption.set = {policy}
"""
        )
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__([program("rtorrent"), "-n", "-o", f"import={self.home}/rc"])
        until(lambda: self.ask("load.start", "", str(meta)) is not None, SOON, f"rTorrent takes the torrent: {self}")
        self.hash = until(lambda: self.ask("download_list"), SOON, f"rTorrent has the torrent: {self}")[0]

    def ask(self, method, *args):
        """What it answers; None while it does not."""
        body = xmlrpc.client.dumps(args, method).encode()
        head = b"CONTENT_LENGTH\0%d\0SCGI\0001\0" % len(body)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.socket))
                connection.sendall(b"%d:%s,%s" % (len(head), head, body))
                answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            return xmlrpc.client.loads(answer.partition(b"\r\n\r\n")[2])[0][0]
        except (OSError, xmlrpc.client.Error):
            return None

    def wait_complete(self, seconds):
        until(lambda: self.ask("d.complete", self.hash), seconds, f"rTorrent has everything: {self}")
        return self

    def connections(self):
        peers = self.ask("p.multicall", self.hash, "", "p.is_obfuscated=", "p.is_encrypted=") or []
        return {("tcp", "rc4" if encrypted else "plaintext" if obfuscated else "none") for obfuscated, encrypted in peers}

    def stop(self):
        super().stop()
        shutil.rmtree(self.home, ignore_errors=True)


class RTorrent:
    connections = RTorrentProcess.connections
    # It takes zeros at the front of the shared secret for none: one encrypted handshake in 256 fails, and it does not dial again.
    miscounts_secrets = True

    @staticmethod
    def source(meta, folder, transport, encryption):
        return RTorrentProcess(meta, folder, encryption).wait_complete(SOON)

    @staticmethod
    def downloader(meta, folder, peers, transport, encryption):
        # It is told of peers by the tracker.
        return RTorrentProcess(meta, folder, encryption)


class RqbitProcess(AskedProcess):
    def __init__(self, meta, folder, transport, *options):
        port, api_port = free_port(), free_port()
        self.address = LOOPBACK.endpoint(port)
        other = ["--experimental-enable-utp-listen", "--disable-tcp-listen", "--disable-tcp-connect"] if transport == "utp" else []
        args = [
            tool("rqbit"),
            "--disable-dht",
            "--disable-lsd",
            "--disable-upnp-port-forward",
            f"--http-api-listen-addr=127.0.0.1:{api_port}",
            "--listen-ip=127.0.0.1",
            f"--listen-port={port}",
            *other,
            "download",
            "--overwrite",
            f"--output-folder={folder}",
            *options,
            meta,
        ]
        super().__init__(args, new_scratch(MIB), api_port)

    def is_complete(self):
        return (self.ask("/torrents/0/stats/v1") or {}).get("finished")

    def connections(self):
        peers = (self.ask("/torrents/0/peer_stats") or {}).get("peers", {}).values()
        return {(peer["conn_kind"].lower(), "none") for peer in peers if peer["conn_kind"]}


class Rqbit:
    connections = RqbitProcess.connections

    @staticmethod
    def source(meta, folder, transport, encryption):
        return RqbitProcess(meta, folder, transport).wait_complete(SOON)

    @staticmethod
    def downloader(meta, folder, peers, transport, encryption):
        # It asks the tracker only once in a while.
        return RqbitProcess(meta, folder, transport, "--initial-peers", ",".join(peers))


class LibutpRelay(Process):
    """Carries connections to `address` on to `to`, over TCP on one side and over libutp on the other."""

    def __init__(self, direction, to):
        self.address = LOOPBACK.endpoint(free_port())
        super().__init__([tool("libutp_relay"), direction, self.address, to])
        self.wait_line("listening")
