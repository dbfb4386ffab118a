"""Home networks: behind a router each, which lets nothing in that nobody asked for, on an internet of their own."""

import subprocess

from harness import Host, Process, missing, program
from network import Network, ip

# The addresses mean the world, not a local network.
INTERNET = "203.0.113.{}"

# Packets that nobody asked for are dropped. An answer by ICMP would have the router remember them, and give the next packet of its own side to
# the same place another port.
ROUTER = """
table inet filter {{
    chain input {{ type filter hook input priority 0; policy drop; ct state established,related accept; iifname "{inside}" accept; }}
    chain forward {{ type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "{inside}" accept; jump MINIUPNPD; }}
    chain MINIUPNPD {{ }}
    chain prerouting {{ type nat hook prerouting priority -100; jump MINIUPNPD_PRE; }}
    chain MINIUPNPD_PRE {{ }}
    chain postrouting {{ type nat hook postrouting priority 100; {nat}; jump MINIUPNPD_POST; }}
    chain MINIUPNPD_POST {{ }}
}}
"""

# With IPv6 everybody has addresses of the world, and a router only keeps out what nobody asked for.
INTERNET6 = "2001:db8::{}"
FIREWALL6 = """
table inet filter {
    chain input { type filter hook input priority 0; policy drop; ct state established,related accept; meta l4proto ipv6-icmp accept; }
    chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "home" accept; }
}
"""

# It takes private addresses, and those of examples, for another NAT's, unless it is told which one the world sees.
TOLD = "1.2.3.4"
MINIUPNPD = """
ext_ifname={outside}
ext_ip={told}
listening_ip={inside}
http_port=0
enable_upnp={upnp}
enable_natpmp={pmp}
secure_mode=yes
min_lifetime=120
max_lifetime=86400
notify_interval=30
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=MINIUPNPD
upnp_nat_chain=MINIUPNPD_PRE
upnp_nat_postrouting_chain=MINIUPNPD_POST
{rule} 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

# The port that a computer sends from is its port outside.
KEEPS_PORTS = 'oifname "uplink" masquerade'
# Datagrams all leave from one port, which is not the one that anybody listens on.
CHANGES_PORTS = 'oifname "uplink" meta l4proto udp masquerade to :40000; oifname "uplink" masquerade'
# Each conversation has a port of its own.
SYMMETRIC = 'oifname "uplink" masquerade fully-random'


def route(router, inside, nat):
    """Makes a host the router of a home on its device `inside`."""
    forward(router, "net.ipv4.ip_forward", ROUTER.format(inside=inside, nat=nat))


def forward(router, setting, rules):
    """Has a host pass on what these rules let through."""
    subprocess.run(router.command("sysctl", "-qw", f"{setting}=1"), check=True)
    made = subprocess.run(router.command(program("nft"), "-f", "-"), input=rules, capture_output=True, text=True)
    if made.returncode != 0:
        missing(f"no NAT in namespaces: {made.stderr.strip()}")


def miniupnpd(router, scratch, inside, outside, upnp="yes", pmp="yes", rule="allow"):
    """Has a router pass on what computers on its device `inside` ask for."""
    config, pid = scratch / "miniupnpd.conf", scratch / "miniupnpd.pid"
    config.write_text(MINIUPNPD.format(inside=inside, outside=outside, told=TOLD, upnp=upnp, pmp=pmp, rule=rule))
    pid.unlink(missing_ok=True)
    gateway = Process(router.command(program("miniupnpd"), "-d", "-f", config, "-P", pid))
    gateway.wait_line("Listening for NAT-PMP" if pmp == "yes" else "HTTP listening")
    return gateway


class Homes:
    """`outside` hosts on the internet, and a home behind a router for each of these NATs."""

    def __init__(self, outside, *nats):
        self.nft = program("nft")
        self.network = Network(outside + len(nats))
        try:
            self._build(outside, nats)
        except BaseException:
            self.remove()
            raise

    def _build(self, outside, nats):
        self.outside, self.routers, self.homes = [], [], []
        for number in range(1, outside + len(nats) + 1):
            namespace, address = self.network.namespaces[number], INTERNET.format(number)
            ip("-n", namespace, "address", "flush", "dev", "uplink")
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", "uplink")
            hosts = self.outside if number <= outside else self.routers
            hosts.append(Host(address, namespace))
        for number, (router, nat) in enumerate(zip(self.routers, nats), 1):
            self._add_home(number, router, nat)

    def _add_home(self, number, router, nat):
        home = self.network.add(f"home{number}")
        ip("link", "add", "home", "netns", router.namespace, "type", "veth", "peer", "name", "uplink", "netns", home)
        inner, address = f"192.168.{number}.1", f"192.168.{number}.2"
        for namespace, device, own in ((router.namespace, "home", inner), (home, "uplink", address)):
            ip("-n", namespace, "address", "add", f"{own}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
        ip("-n", home, "link", "set", "lo", "up")
        ip("-n", home, "route", "add", "default", "via", inner)
        self.homes.append(Host(address, home))
        route(router, "home", nat)

    def miniupnpd(self, number, scratch):
        """Has a router pass on what computers behind it ask for."""
        return miniupnpd(self.routers[number], scratch, inside="home", outside="uplink")

    def let_out_only_to(self, number, address):
        rule = ("insert", "rule", "inet", "filter", "forward", "iifname", "home", "ip", "daddr", "!=", address, "counter", "drop")
        subprocess.run(self.routers[number].command(self.nft, *rule), check=True)

    def kept_in(self, number):
        """How many packets were not let out."""
        chain = self.routers[number].command(self.nft, "list", "chain", "inet", "filter", "forward")
        listed = subprocess.run(chain, capture_output=True, text=True, check=True).stdout
        return int(listed.split("counter packets ")[1].split()[0])

    def remove(self):
        self.network.remove()


class Homes6(Homes):
    """The same with IPv6: `homes` of them, behind a firewall each."""

    def __init__(self, outside, homes):
        super().__init__(outside, *[None] * homes)

    def _build(self, outside, nats):
        self.outside, self.routers, self.homes = [], [], []
        count = outside + len(nats)
        for number in range(1, count + 1):
            namespace, address = self.network.namespaces[number], INTERNET6.format(number)
            # Routers find their neighbours by link-local addresses.
            ip("-n", namespace, "address", "flush", "dev", "uplink", "scope", "global")
            ip("-n", namespace, "address", "add", f"{address}/64", "dev", "uplink", "nodad")
            hosts = self.outside if number <= outside else self.routers
            hosts.append(Host(address, namespace))
        for number, router in enumerate(self.routers, 1):
            home = self.network.add(f"home{number}")
            ip("link", "add", "home", "netns", router.namespace, "type", "veth", "peer", "name", "uplink", "netns", home)
            inner, address = f"2001:db8:{number}::1", f"2001:db8:{number}::2"
            for namespace, device, own in ((router.namespace, "home", inner), (home, "uplink", address)):
                ip("-n", namespace, "address", "add", f"{own}/64", "dev", device, "nodad")
                ip("-n", namespace, "link", "set", device, "up")
            ip("-n", home, "link", "set", "lo", "up")
            ip("-6", "-n", home, "route", "add", "default", "via", inner)
            for other in self.outside + self.routers:
                if other is not router:
                    ip("-6", "-n", other.namespace, "route", "add", f"2001:db8:{number}::/64", "via", router.ip)
            self.homes.append(Host(address, home))
            forward(router, "net.ipv6.conf.all.forwarding", FIREWALL6)
