//! Asking a proxy for a connection, or for a relay of datagrams.

use super::relay::{IPV4, IPV6, NAME, read_address, write_destination};
use super::{Destination, Login, Proxy, ProxyError, ProxyKind, specified};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Longest head of an answer to CONNECT, in bytes.
pub const HEAD_LEN_MAX: usize = 16 * 1024;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
/// Methods of login: none; user and password; what a server says that wants another.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;

/// Where a relay takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relay {
    /// Its address; `None`: the proxy's own.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Method,
    Login,
    Reply,
    Head,
    Done,
}

/// The client's end of one connection to a proxy, up to where it carries what it was asked for.
///
/// Send what [`poll_output`](Self::poll_output) gives, read [`wanted`](Self::wanted) bytes, or some of them, hand them to
/// [`handle_bytes`](Self::handle_bytes), and so on until none are wanted.
pub struct Handshake {
    stage: Stage,
    login: Option<Login>,
    /// The request that follows the login.
    request: Vec<u8>,
    output: Option<Vec<u8>>,
    received: Vec<u8>,
    relay: Option<Relay>,
}

impl Handshake {
    /// Asks for a connection.
    ///
    /// # Errors
    /// [`ProxyError::BadName`].
    pub fn connect(proxy: &Proxy, to: &Destination) -> Result<Handshake, ProxyError> {
        match proxy.kind {
            ProxyKind::Socks5 => Handshake::socks(proxy, CONNECT, to),
            ProxyKind::Http if !to.is_valid() => Err(ProxyError::BadName),
            ProxyKind::Http => {
                let head = connect_head(proxy, to);
                Ok(Handshake::new(Stage::Head, proxy, Vec::new(), head))
            }
        }
    }

    /// Asks for a relay of datagrams.
    ///
    /// # Errors
    /// [`ProxyError::NoDatagrams`] if the proxy is none that has any.
    pub fn associate(proxy: &Proxy) -> Result<Handshake, ProxyError> {
        // Where our datagrams come from is not known yet, and nobody's business.
        let from = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into();
        match proxy.kind {
            ProxyKind::Socks5 => Handshake::socks(proxy, ASSOCIATE, &from),
            ProxyKind::Http => Err(ProxyError::NoDatagrams),
        }
    }

    fn socks(proxy: &Proxy, command: u8, to: &Destination) -> Result<Handshake, ProxyError> {
        let mut request = vec![VERSION, command, 0];
        write_destination(to, &mut request)?;
        let greeting = match proxy.login {
            Some(_) => vec![VERSION, 2, NO_LOGIN, PASSWORD],
            None => vec![VERSION, 1, NO_LOGIN],
        };
        Ok(Handshake::new(Stage::Method, proxy, request, greeting))
    }

    fn new(stage: Stage, proxy: &Proxy, request: Vec<u8>, output: Vec<u8>) -> Handshake {
        let (login, output) = (proxy.login.clone(), Some(output));
        Handshake { stage, login, request, output, received: Vec::new(), relay: None }
    }

    /// Bytes to send.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.output.take()
    }

    /// How many bytes there are to be at least before it goes on; 0: it is done.
    pub fn wanted(&self) -> usize {
        let whole = match self.stage {
            Stage::Done => return 0,
            Stage::Head => return missing_of_head(&self.received),
            Stage::Method | Stage::Login => 2,
            Stage::Reply => match self.received.get(3..5) {
                None => 5,
                Some([IPV6, _]) => 4 + 16 + 2,
                Some([NAME, len]) => 4 + 1 + usize::from(*len) + 2,
                Some(_) => 4 + 4 + 2,
            },
        };
        whole - self.received.len()
    }

    /// The relay that was asked for, once it is done.
    pub fn relay(&self) -> Option<Relay> {
        self.relay
    }

    /// Whether the proxy has been asked for what is wanted: what it does from then on may be about that.
    pub fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Reply | Stage::Head | Stage::Done)
    }

    /// Bytes have come, no more than were wanted.
    ///
    /// # Errors
    /// Why the proxy does not do what it was asked.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), ProxyError> {
        debug_assert!(bytes.len() <= self.wanted(), "what follows is not for us");
        self.received.extend_from_slice(bytes);
        match self.stage {
            Stage::Method if self.received.first().is_some_and(|&version| version != VERSION) => {
                Err(ProxyError::OtherProtocol)
            }
            Stage::Head => self.on_head(),
            Stage::Reply if self.received.len() >= 2 && self.received[1] != 0 => {
                // What follows such an answer is of no interest.
                Err(refusal(self.received[0], self.received[1], &self.request))
            }
            _ if self.wanted() > 0 => Ok(()),
            Stage::Method => self.on_method(),
            Stage::Login if self.received[1] != 0 => Err(ProxyError::LoginRefused),
            Stage::Login => self.ask(),
            Stage::Reply => self.on_reply(),
            Stage::Done => Ok(()),
        }
    }

    fn on_method(&mut self) -> Result<(), ProxyError> {
        match (self.received[1], &self.login) {
            (NO_LOGIN, _) => self.ask(),
            (PASSWORD, Some(Login { user, password })) => {
                let mut output = vec![LOGIN_VERSION];
                for part in [user, password] {
                    // As long as the URL's check allows.
                    output.push(part.len() as u8);
                    output.extend_from_slice(part);
                }
                self.proceed(Stage::Login, output);
                Ok(())
            }
            (NO_METHOD | PASSWORD, None) => Err(ProxyError::LoginWanted),
            (NO_METHOD, Some(_)) => Err(ProxyError::LoginUnknown),
            _ => Err(ProxyError::Malformed),
        }
    }

    fn ask(&mut self) -> Result<(), ProxyError> {
        let request = self.request.clone();
        self.proceed(Stage::Reply, request);
        Ok(())
    }

    fn proceed(&mut self, stage: Stage, output: Vec<u8>) {
        self.stage = stage;
        self.received.clear();
        self.output = Some(output);
    }

    fn on_reply(&mut self) -> Result<(), ProxyError> {
        let [VERSION, 0, _, rest @ ..] = &self.received[..] else { return Err(ProxyError::Malformed) };
        let is_relay = self.request[1] == ASSOCIATE;
        let kind = rest[0];
        if is_relay {
            // A name could not be looked up without another seeing it; it is the proxy's own or none.
            let (addr, len) = read_address(rest).ok_or(ProxyError::Malformed)?;
            let port = u16::from_be_bytes([rest[len - 2], rest[len - 1]]);
            if port == 0 {
                return Err(ProxyError::Malformed);
            }
            self.relay = Some(Relay { ip: addr.and_then(|addr| specified(addr.ip())), port });
        } else if ![IPV4, IPV6, NAME].contains(&kind) {
            return Err(ProxyError::Malformed);
        }
        self.stage = Stage::Done;
        Ok(())
    }

    fn on_head(&mut self) -> Result<(), ProxyError> {
        let so_far = &self.received[..self.received.len().min(5)];
        if so_far != &b"HTTP/"[..so_far.len()] {
            return Err(ProxyError::OtherProtocol);
        }
        if missing_of_head(&self.received) > 0 {
            let is_too_long = self.received.len() >= HEAD_LEN_MAX;
            return if is_too_long { Err(ProxyError::Malformed) } else { Ok(()) };
        }
        let line = self.received.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let status = line.split(|&byte| byte == b' ').nth(1);
        let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok());
        match status.ok_or(ProxyError::Malformed)? {
            // An interim answer; the other one follows.
            100..=199 => {
                self.received.clear();
                Ok(())
            }
            200..=299 => {
                self.stage = Stage::Done;
                Ok(())
            }
            407 if self.login.is_some() => Err(ProxyError::LoginRefused),
            407 => Err(ProxyError::LoginWanted),
            403 => Err(ProxyError::NotAllowed),
            405 | 501 => Err(ProxyError::NoConnections),
            status => Err(ProxyError::Failed(status)),
        }
    }
}

/// Why SOCKS5 says no.
fn refusal(version: u8, code: u8, request: &[u8]) -> ProxyError {
    let is_relay = request[1] == ASSOCIATE;
    match code {
        _ if version != VERSION => ProxyError::Malformed,
        7 if is_relay => ProxyError::NoDatagrams,
        7 => ProxyError::NoConnections,
        2 => ProxyError::NotAllowed,
        3 | 4 | 6 | 8 => ProxyError::Unreachable,
        5 => ProxyError::ConnectionRefused,
        code => ProxyError::Failed(code.into()),
    }
}

/// How many bytes a head lacks at least until the empty line that ends it.
fn missing_of_head(received: &[u8]) -> usize {
    const END: &[u8] = b"\r\n\r\n";
    let has = (1..=END.len()).rev().find(|&len| received.ends_with(&END[..len])).unwrap_or(0);
    END.len() - has
}

fn connect_head(proxy: &Proxy, to: &Destination) -> Vec<u8> {
    let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(Login { user, password }) = &proxy.login {
        let plain = [user, &b":"[..], password].concat();
        head.push_str(&format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(plain)));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
