//! Where packets to the world go first: the gateway of the default route.

use super::socket::{self, Binding};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

/// A socket for datagrams to and from the gateway. With a proxy there is none. Needs a tokio runtime.
pub(crate) fn connect(gateway: SocketAddr, binding: &Binding) -> io::Result<UdpSocket> {
    binding.refuse_past_proxy()?;
    socket::connect_udp(gateway, binding)
}

/// The gateway of the default route for IPv4, on this device if one is given; the one that the system prefers. Known on Linux only.
pub(crate) fn default_gateway(device: Option<&str>) -> Option<Ipv4Addr> {
    parse(&std::fs::read_to_string("/proc/net/route").ok()?, device)
}

/// The name of the device that has this address.
pub(crate) fn device_of(ip: IpAddr) -> Option<String> {
    let found = if_addrs::get_if_addrs().ok()?.into_iter().find(|interface| interface.ip() == ip);
    found.map(|interface| interface.name)
}

fn parse(table: &str, device: Option<&str>) -> Option<Ipv4Addr> {
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |nth: usize| u32::from_str_radix(fields.get(nth)?, 16).ok();
        let is_default = hex(1)? == 0 && hex(7)? == 0 && hex(3)? & (UP | GATEWAY) == UP | GATEWAY;
        let is_there = device.is_none_or(|device| fields.first() == Some(&device));
        let metric: u32 = fields.get(6)?.parse().ok()?;
        // The kernel prints the number that has the address's bytes in memory.
        (is_default && is_there).then_some((metric, Ipv4Addr::from(hex(2)?.to_ne_bytes())))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateway_of_the_default_route_with_the_lowest_metric() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n\
            eth1\t00000000\t0100000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let of = |device| parse(table, device);
        assert_eq!(of(None), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(of(Some("wlan0")), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(of(Some("tun0")), None);
        assert_eq!(parse("", None), None);
        assert_eq!(parse("x\nshort line\n", None), None);
    }
}
