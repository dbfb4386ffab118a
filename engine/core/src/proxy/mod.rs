//! What is said to a proxy: SOCKS5 (RFC 1928, 1929) and HTTP's CONNECT, for connections, and for datagrams over SOCKS5.
//!
//! A [`Handshake`] asks for a connection, or for a relay of datagrams. It says how many bytes it wants next, and never takes
//! more: what comes after it is the other side's. [`wrap`] and [`unwrap`] put datagrams into the relay's form and back.
//!
//! Hosts may be named ([`Destination::Name`]): the proxy looks them up.

mod destination;
mod handshake;
mod relay;

pub use destination::Destination;
pub use handshake::{HEAD_LEN_MAX, Handshake, Relay};
pub use relay::{OVERHEAD_MAX, unwrap, wrap};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use url::{Host, Url};

/// Longest user and longest password of SOCKS5, in bytes.
const LOGIN_LEN_MAX: usize = 255;
/// Where SOCKS proxies listen, if the URL names no port.
const SOCKS_PORT: u16 = 1080;

/// What is spoken to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyKind {
    /// SOCKS5, which carries connections and, where the proxy offers it, datagrams.
    Socks5,
    /// HTTP's CONNECT, which carries connections.
    Http,
}

/// A proxy, as its URL names it: `socks5://[USER:PASSWORD@]HOST:PORT` or `http://[USER:PASSWORD@]HOST:PORT`.
///
/// Neither `Debug` nor `Display` shows its user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyKind,
    host: Host<String>,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Proxy {
    /// What it speaks.
    pub fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Whether it may carry datagrams.
    pub fn carries_datagrams(&self) -> bool {
        self.kind == ProxyKind::Socks5
    }

    /// The whole of its URL, with its password, as other programs take it: names are looked up by the proxy. It is never to be shown.
    pub fn secret_url(&self) -> Url {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5h",
            ProxyKind::Http => "http",
        };
        let encoded = |part: &[u8]| percent_encode(part, NON_ALPHANUMERIC).to_string();
        let login = self.login.as_ref();
        let login = login.map(|login| format!("{}:{}@", encoded(&login.user), encoded(&login.password)));
        let url = format!("{scheme}://{}{}:{}", login.unwrap_or_default(), self.host, self.port);
        Url::parse(&url).expect("its parts come from a URL")
    }

    /// Where it is. Its own name is the one that the proxy cannot look up.
    pub fn place(&self) -> Destination {
        match &self.host {
            Host::Ipv4(ip) => Destination::Addr((*ip, self.port).into()),
            Host::Ipv6(ip) => Destination::Addr((*ip, self.port).into()),
            Host::Domain(name) => Destination::Name(name.clone(), self.port),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Http => "http",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() { " with a password" } else { "" };
        write!(f, "Proxy({self}{login})")
    }
}

/// Why a text is not the URL of a proxy. It never shows the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// It is not a URL.
    #[error("is not a URL; write it as in socks5://[user:password@]host:1080 or http://host:8080")]
    NotAUrl,
    /// Something else is spoken there.
    #[error("starts with neither socks5: nor http:")]
    Scheme,
    /// There is no host in it.
    #[error("names no host")]
    NoHost,
    /// It is more than a host.
    #[error("has a path or a query after the port")]
    Path,
    /// The protocol has no room for its user or password.
    #[error("has a user or a password that the protocol cannot carry")]
    Login,
}

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Proxy, ProxyUrlError> {
        use ProxyUrlError as E;
        let url = Url::parse(text.trim()).map_err(|_| E::NotAUrl)?;
        let kind = match url.scheme() {
            // Names are always looked up by the proxy.
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "http" => ProxyKind::Http,
            _ => return Err(E::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(E::NoHost)?;
        let host = Host::parse(host).map_err(|_| E::NoHost)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(E::Path);
        }
        let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
        let port = if port == 0 { return Err(E::NoHost) } else { port };
        Ok(Proxy { kind, host, port, login: login(&url, kind)? })
    }
}

fn login(url: &Url, kind: ProxyKind) -> Result<Option<Login>, ProxyUrlError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or("")));
    let fits = match kind {
        ProxyKind::Socks5 => !user.is_empty() && user.len().max(password.len()) <= LOGIN_LEN_MAX,
        // A colon ends the user.
        ProxyKind::Http => !user.contains(&b':'),
    };
    if fits { Ok(Some(Login { user, password })) } else { Err(ProxyUrlError::Login) }
}

/// What a proxy does not do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// What answers speaks something else.
    #[error("what answers there is no such proxy")]
    OtherProtocol,
    /// It wants to know who asks.
    #[error("the proxy wants a user and a password")]
    LoginWanted,
    /// It offers no login that we can do.
    #[error("the proxy offers no login that is known here")]
    LoginUnknown,
    /// It does not know the user, or the password is another.
    #[error("the proxy refuses the user and password")]
    LoginRefused,
    /// It carries connections only.
    #[error("the proxy carries no datagrams (UDP)")]
    NoDatagrams,
    /// It does not carry connections.
    #[error("the proxy does not carry connections")]
    NoConnections,
    /// It answers what makes no sense.
    #[error("the proxy's answer makes no sense")]
    Malformed,
    /// The name of the host is none.
    #[error("the host's name is none")]
    BadName,
    /// It may not, or does not want to.
    #[error("the proxy does not allow it")]
    NotAllowed,
    /// There is no way there.
    #[error("the proxy finds no way there")]
    Unreachable,
    /// Nobody listens there.
    #[error("the proxy was refused the connection")]
    ConnectionRefused,
    /// It failed for a reason of its own, or does not say why.
    #[error("the proxy cannot connect there (it answers {0})")]
    Failed(u16),
}

impl ProxyError {
    /// Whether it is about whom we wanted to reach, not about the proxy or us: another destination may work.
    pub fn is_about_destination(self) -> bool {
        use ProxyError as E;
        matches!(self, E::BadName | E::NotAllowed | E::Unreachable | E::ConnectionRefused | E::Failed(_))
    }
}

/// The address, unless it stands for any.
fn specified(ip: IpAddr) -> Option<IpAddr> {
    Some(ip.to_canonical()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests;
