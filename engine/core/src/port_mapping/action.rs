//! What a mapper is told, what it wants done, and what came of it.

use std::fmt;
use std::net::Ipv4Addr;

/// How a port is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// An Internet Gateway Device of UPnP.
    Upnp,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Pcp => "PCP",
            Method::NatPmp => "NAT-PMP",
            Method::Upnp => "UPnP",
        })
    }
}

/// Why there is no mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Nobody knows where the gateway is.
    #[error("no gateway is known")]
    NoGateway,
    /// Nothing came back.
    #[error("no answer")]
    Silent,
    /// The system says that nobody is there.
    #[error("nobody listens there")]
    Unreachable,
    /// It speaks another version.
    #[error("the gateway does not speak it")]
    OtherVersion,
    /// It said no.
    #[error("refused ({0})")]
    Refused(String),
    /// It is not connected to anything itself.
    #[error("the gateway has no outer address")]
    NoAddress,
    /// What it said makes no sense.
    #[error("the gateway answers nonsense")]
    Nonsense,
    /// It was not renewed in time.
    #[error("the mapping has run out")]
    Expired,
}

/// A port that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// How.
    pub method: Method,
    /// The gateway's outer address, if it tells. Behind another NAT it is not the one that the world sees.
    pub ip: Option<Ipv4Addr>,
    /// The port there.
    pub port: u16,
}

/// What the library for UPnP is to do, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upnp {
    /// Map this external port, for so long; 0 is for good. The answer is [`PortMapper::handle_upnp`](super::PortMapper::handle_upnp).
    Map {
        /// The port that the world is to see.
        external_port: u16,
        /// In seconds.
        lifetime_s: u32,
    },
    /// Take the mapping of this external port away. The answer is [`PortMapper::handle_upnp_removed`](super::PortMapper::handle_upnp_removed).
    Remove {
        /// The port that the world sees.
        external_port: u16,
    },
}

/// Why the library for UPnP has mapped nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpnpError {
    /// Somebody else has this port.
    Conflict,
    /// There are mappings for good only.
    PermanentOnly,
    /// Anything else.
    Other(Trouble),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the gateway's [`GATEWAY_PORT`](super::GATEWAY_PORT).
    Send(Vec<u8>),
    /// Have the library do this.
    Upnp(Upnp),
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The port is mapped, or mapped otherwise than before.
    Mapped(Mapping),
    /// It is mapped no more. What can be done is done.
    Lost(Trouble),
    /// All ways have failed, each for this reason. They are tried again later.
    Failed(Vec<(Method, Trouble)>),
}

/// What a mapper is told when it is made, and when the network has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whether there is a gateway to speak PCP and NAT-PMP with.
    pub has_gateway: bool,
    /// Our address as the gateway sees it.
    pub client: Ipv4Addr,
    /// Whether UPnP may be tried.
    pub upnp: bool,
}

pub(super) fn refusal(method: Method, code: u16) -> Trouble {
    let text = match (method, code) {
        (Method::NatPmp, 2) | (Method::Pcp, 2) => "not authorized",
        (Method::NatPmp, 3) => return Trouble::NoAddress,
        (Method::NatPmp, 4) | (Method::Pcp, 8) => "out of resources",
        (Method::NatPmp, 5) => return Trouble::OtherVersion,
        (Method::Pcp, 3) => "malformed request",
        (Method::Pcp, 4) => return Trouble::OtherVersion,
        (Method::Pcp, 7) => "the gateway has no network",
        (Method::Pcp, 9) => "no such transport",
        (Method::Pcp, 10) => "quota used up",
        (Method::Pcp, 11) => "not that port",
        (Method::Pcp, 12) => "another NAT is between us",
        _ => return Trouble::Refused(format!("code {code}")),
    };
    Trouble::Refused(text.to_owned())
}
