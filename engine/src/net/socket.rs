//! Opening sockets, bound to the addresses and the device that the user chose.

use crate::Error;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use swarm_core::proxy::{Proxy, ProxyKind};
use tokio::net::{TcpStream, UdpSocket};

/// The first port tried when none is asked for.
pub const LISTEN_PORT_FIRST: u16 = 6881;
/// How many ports are tried when none is asked for.
const PORTS_TRIED: u16 = 100;
/// How many connections may wait to be accepted, as far as the system allows: so many that a thousand that come at once
/// do not make an honest one come again a second later.
const BACKLOG: i32 = 4_096;

/// What sockets are bound to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding {
    /// Where to listen; outgoing connections leave from those that are not unspecified. Empty: everywhere.
    pub(crate) listen: Vec<SocketAddr>,
    /// The network device (Linux only).
    pub(crate) device: Option<String>,
    /// Through whom everything goes, and nothing another way.
    pub(crate) proxy: Option<ProxyHost>,
}

/// A proxy, and its address once it is known. Clones share that.
#[derive(Clone, Debug)]
pub(crate) struct ProxyHost {
    pub(super) proxy: Arc<Proxy>,
    pub(super) found: Arc<Mutex<Option<SocketAddr>>>,
}

impl ProxyHost {
    pub(crate) fn new(proxy: Proxy) -> ProxyHost {
        ProxyHost { proxy: Arc::new(proxy), found: Arc::default() }
    }

    /// Its URL with its password, for who speaks to it: never to be shown.
    pub(crate) fn secret_url(&self) -> url::Url {
        self.proxy.secret_url()
    }

    pub(crate) fn kind(&self) -> ProxyKind {
        self.proxy.kind()
    }

    pub(crate) fn carries_datagrams(&self) -> bool {
        self.proxy.carries_datagrams()
    }
}

impl Binding {
    /// Fails if there is a proxy: for sockets that would go past it.
    pub(super) fn refuse_past_proxy(&self) -> io::Result<()> {
        match self.proxy {
            Some(_) => Err(io::Error::other("this does not go through a proxy")),
            None => Ok(()),
        }
    }

    /// The address that what goes to `to` leaves from, if one is chosen.
    pub(crate) fn source_ip(&self, to: IpAddr) -> Option<IpAddr> {
        let mut chosen = self.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        chosen.find(|ip| ip.is_ipv4() == to.is_ipv4())
    }

    /// A socket for what leaves to `to`.
    fn outgoing(&self, to: SocketAddr, kind: Type) -> io::Result<Socket> {
        let socket = new_socket(to, kind, self.device.as_deref())?;
        if let Some(ip) = self.source_ip(to.ip()) {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        Ok(socket)
    }
}

/// Opens the listening sockets.
pub(crate) fn listen(binding: &Binding) -> Result<Vec<TcpListener>, Error> {
    let open = |addr: SocketAddr| {
        listen_on(addr, binding.device.as_deref())
            .map_err(|e| Error::Listen { addr, source: std::sync::Arc::new(e) })
    };
    // Through a proxy nobody finds us, unless the user has seen to that.
    if !binding.listen.is_empty() || binding.proxy.is_some() {
        return binding.listen.iter().map(|&addr| open(addr)).collect();
    }
    let mut last = None;
    for port in LISTEN_PORT_FIRST..LISTEN_PORT_FIRST + PORTS_TRIED {
        match open((Ipv4Addr::UNSPECIFIED, port).into()) {
            Ok(v4) => {
                // A machine without IPv6 is no error; a port that is taken there only is tried no further.
                let v6 = open((Ipv6Addr::UNSPECIFIED, port).into()).ok();
                return Ok([Some(v4), v6].into_iter().flatten().collect());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("at least one port was tried"))
}

fn listen_on(addr: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = new_socket(addr, Type::STREAM, device)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn new_socket(addr: SocketAddr, kind: Type, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    #[cfg(not(target_os = "linux"))]
    if device.is_some() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "binding to a device is supported on Linux only",
        ));
    }
    Ok(socket)
}

/// Whether the datagrams of a socket may be cut into pieces on their way. If not, the system says nothing of what it has learnt of the path:
/// whoever sends finds out (RFC 8899), as `quinn-udp` has it.
#[cfg(target_os = "linux")]
pub(super) fn set_may_fragment(socket: &UdpSocket, may: bool) -> io::Result<()> {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
    use rustix::net::sockopt::{set_ip_mtu_discover, set_ipv6_mtu_discover};
    let set = if socket.local_addr()?.is_ipv4() {
        let how = if may { Ipv4PathMtuDiscovery::DONT } else { Ipv4PathMtuDiscovery::PROBE };
        set_ip_mtu_discover(socket, how)
    } else {
        let how = if may { Ipv6PathMtuDiscovery::DONT } else { Ipv6PathMtuDiscovery::PROBE };
        set_ipv6_mtu_discover(socket, how)
    };
    Ok(set?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_may_fragment(_: &UdpSocket, _: bool) -> io::Result<()> {
    Ok(())
}

/// Opens a socket for datagrams of everybody. Needs a tokio runtime.
pub(super) fn udp(addr: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = new_socket(addr, Type::DGRAM, device)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// A socket that hears what is sent to a group, on the interface that has `ip`, or, if that is unspecified, on the one that
/// the system prefers. Others on this machine may listen to the same group. Needs a tokio runtime.
pub(crate) fn group_listener(group: SocketAddr, ip: IpAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = new_socket(group, Type::DGRAM, device)?;
    socket.set_reuse_address(true)?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Bound to the group, it hears nothing else; not every system can do that.
    let any = if group.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let heard = if cfg!(unix) { group.ip() } else { any };
    socket.bind(&SocketAddr::new(heard, group.port()).into())?;
    match (group.ip(), ip) {
        (IpAddr::V4(group), IpAddr::V4(ip)) => {
            // Else also what others on this machine joined on other interfaces.
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4(&group, &ip)?;
        }
        (IpAddr::V6(group), IpAddr::V6(ip)) => {
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(&group, interface_of(ip))?;
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    UdpSocket::from_std(socket.into())
}

/// A socket that sends to groups from `ip`, by the same interface. Needs a tokio runtime.
pub(crate) fn group_sender(ip: IpAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let addr = SocketAddr::new(ip, 0);
    let socket = new_socket(addr, Type::DGRAM, device)?;
    match ip {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip)?,
        IpAddr::V6(ip) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_if_v6(interface_of(ip))?;
        }
    }
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// The index of the interface that has this address; 0, which leaves the choice to the system, where that is not known.
fn interface_of(ip: Ipv6Addr) -> u32 {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let digits = format!("{:032x}", ip.to_bits());
    let line = table.lines().find(|line| line.starts_with(&digits));
    let index = line.and_then(|line| u32::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    index.unwrap_or(0)
}

/// The address that packets to `to` leave from now, if any do. Nothing is sent.
pub(crate) fn route(to: IpAddr, device: Option<&str>) -> Option<IpAddr> {
    let to = SocketAddr::new(to, 9);
    let socket = new_socket(to, Type::DGRAM, device).ok()?;
    socket.connect(&to.into()).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

/// A socket for datagrams to and from one address.
pub(super) fn connect_udp(to: SocketAddr, binding: &Binding) -> io::Result<UdpSocket> {
    let socket = binding.outgoing(to, Type::DGRAM)?;
    socket.connect(&to.into())?;
    UdpSocket::from_std(socket.into())
}

/// Connects over TCP, without a proxy.
pub(super) async fn connect_tcp(to: SocketAddr, binding: &Binding) -> io::Result<TcpStream> {
    let socket = binding.outgoing(to, Type::STREAM)?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    let stream = socket.connect(to).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// Whether a dial failed for want of descriptors, ports or memory on this machine.
pub(crate) fn is_local_error(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory};
    #[cfg(unix)]
    let no_descriptors = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS));
    #[cfg(not(unix))]
    let no_descriptors = false;
    no_descriptors || matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory)
}

/// Sets what every peer connection has: small messages are not held back.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}
