"""Downloads through real proxies: dante (SOCKS5 with UDP), microsocks (SOCKS5) and tinyproxy (CONNECT). The downloader's host counts and drops
each packet that goes elsewhere than to the proxy: names, datagrams, connections. There is a way for them, so that a leak shows."""

import shutil
import subprocess
from pathlib import Path

from clients import Libtorrent, SwarmProcess, Tracker
from harness import BIN, SOON, Case, Process, create, fill, program, seeded, until
from network import Network, ip

NAME = "outside.test"
LENGTH = 3_000_000
LIBTORRENT_UTP = [
    arg
    for way in ("incoming", "outgoing")
    for which in ("utp", "tcp")
    for arg in ("--set", f"enable_{way}_{which}={str(which == 'utp').lower()}")
]
DANTE = """
logoutput: stderr
internal: {ip} port = {port}
external: {ip}
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 command: connect udpassociate }}
socks pass {{ from: 0/0 to: 0/0 command: udpreply }}
"""
RULES = """
table inet count {{
  counter through {{ }}
  counter elsewhere {{ }}
  counter answers {{ }}
  chain in {{
    type filter hook input priority 0;
    ip saddr {proxy} meta l4proto udp counter name answers
  }}
  chain out {{
    type filter hook output priority 0;
    oifname "lo" accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report }} accept
    ip daddr {proxy} counter name through accept
    counter name elsewhere drop
  }}
}}
"""


class Proxied(Case):
    waits = 10

    def setUp(self):
        super().setUp()
        nft = program("nft")
        self.network = Network(3)
        self.addCleanup(self.network.remove)
        self.here, self.proxy, self.outside = (self.network.host(number, 4) for number in (1, 2, 3))
        # The proxy alone knows the name.
        hosts = Path("/etc/netns", self.proxy.namespace)
        hosts.mkdir(parents=True)
        self.addCleanup(shutil.rmtree, hosts)
        (hosts / "hosts").write_text(f"{self.outside.ip} {NAME}\n")
        ip("-n", self.here.namespace, "route", "add", "default", "via", self.outside.ip)
        rules = RULES.format(proxy=self.proxy.ip)
        subprocess.run(self.here.command(nft, "-f", "-"), input=rules, text=True, check=True)
        self.content = fill(self.scratch / "it", LENGTH, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")
        self.port = self.outside.free_port()
        udp = ("--listen-udp", self.outside.endpoint(self.port))
        self.tracker = self.start(Tracker(*udp, host=self.outside, port=self.port))
        local = ("--no-dht", "--no-lsd")
        seed = ("seed", self.meta, self.scratch, "--tracker", self.tracker.url, *local)
        self.seed = self.start(SwarmProcess(*seed, host=self.outside))
        self.seed.wait_event("checked")

    def packets(self, counter):
        nft = ("nft", "list", "counter", "inet", "count", counter)
        listed = subprocess.run(self.here.command(*nft), capture_output=True, text=True, check=True).stdout
        return int(listed.split("packets ")[1].split()[0])

    def serve_dante(self):
        conf = self.scratch / "dante.conf"
        conf.write_text(DANTE.format(ip=self.proxy.ip, port=1080))
        self.serve(program("danted"), "-f", conf)
        return f"socks5://{self.proxy.ip}:1080"

    def serve(self, *command):
        """Runs a proxy, and waits until it listens."""
        self.process = self.start(Process(self.proxy.command(*command)))
        listens = lambda: subprocess.run(
            self.proxy.command("ss", "-Hltn"), capture_output=True, text=True
        ).stdout.strip()
        until(listens, SOON, "the proxy listens")

    def get(self, proxy, scheme="http", *args, peer=None):
        tracker = f"{scheme}://{NAME}:{self.port}/announce"
        command = (BIN / "swarm", "get", self.meta, "-o", self.scratch / "copy", "--json", "--no-state")
        command += ("--tracker", tracker, "--peer", peer or self.seed.address, *args)
        return self.start(Process(self.here.command(*command), env={"ALL_PROXY": proxy}))

    def assert_through(self, getter):
        getter.wait_event("complete", SOON)
        self.assert_same(self.content, self.scratch / "copy/it")
        self.assertGreater(self.packets("through"), 100)
        self.assertEqual(self.packets("elsewhere"), 0)

    def test_dante_carries_a_udp_tracker_too(self):
        getter = self.get(self.serve_dante(), "udp", "--seed")
        # To the connect and to the announce.
        until(lambda: self.packets("answers") >= 2, SOON, "the tracker's answers")
        self.assert_through(getter)

    def test_dante_carries_utp_to_libtorrent(self):
        # Nobody else has it.
        self.seed.stop()
        source = self.start(Libtorrent.source(self.meta, self.scratch, *LIBTORRENT_UTP, host=self.outside))
        getter = self.get(self.serve_dante(), "http", "--no-tcp", "-v", peer=source.address)
        self.assert_through(getter)
        self.assertIn("uTP through the proxy", getter.wait_line("connected addr=" + source.address))
        packets = LENGTH // 1500
        self.assertGreater(self.packets("answers"), packets)
        source.stop()
        counters = source.find("counters")
        self.assertGreater(counters["utp.utp_payload_pkts_out"], packets, str(counters))
        self.assertGreaterEqual(counters["net.sent_payload_bytes"], LENGTH)

    def test_microsocks(self):
        self.serve(program("microsocks"), "-i", self.proxy.ip, "-p", "1080", "-u", "user", "-P", "s3cret")
        getter = self.get(f"socks5://user:s3cret@{self.proxy.ip}:1080", "http", "-vv")
        self.assert_through(getter)
        self.assertNotIn("s3cret", str(getter.output) + str(getter.events))

    def test_tinyproxy(self):
        conf = self.scratch / "tinyproxy.conf"
        ports = (self.port, self.seed.address.split(":")[1])
        lines = ["Port 8080", f"Listen {self.proxy.ip}", "Timeout 60", "Allow 10.0.0.0/24", "MaxClients 50"]
        conf.write_text("\n".join(lines + [f"ConnectPort {port}" for port in ports]) + "\n")
        self.serve(program("tinyproxy"), "-d", "-c", conf)
        self.assert_through(self.get(f"http://{self.proxy.ip}:8080"))

    def test_without_a_proxy_the_counters_count(self):
        self.get("", "http")
        until(lambda: self.packets("elsewhere") > 0, SOON, "a packet that goes elsewhere")

    def test_nothing_goes_when_the_proxy_is_gone(self):
        getter = self.get(f"socks5://{self.proxy.ip}:1080", "udp")
        getter.wait_event("warning")
        # The peer is dialled, and the tracker announced to, again and again: through what is not there.
        before = self.packets("through")
        until(lambda: self.packets("through") >= before + 5, 120, "it tries again")
        self.assertEqual(self.packets("elsewhere"), 0)
        self.assertTrue(getter.is_running())

    def test_the_list_of_processes_shows_no_password(self):
        command = (BIN / "swarm", "get", self.meta, "-o", self.scratch / "copy", "--json", "--no-state")
        proxy = ("--proxy", f"socks5://user:s3cret@{self.proxy.ip}:1080")
        getter = self.start(Process(self.here.command(*command, *proxy)))
        getter.wait_event("listening")
        shown = Path(f"/proc/{getter.pid}/cmdline").read_bytes()
        self.assertIn(b"--proxy", shown)
        self.assertNotIn(b"s3cret", shown)
