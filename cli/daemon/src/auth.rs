//! Who may talk to the daemon over HTTP.
//!
//! On the Unix socket it is who the system says it is. Over TCP anybody on this machine can connect, and so can the pages that
//! somebody's browser shows. So three things are looked at, in this order: the name by which the client knows this host (a page of another
//! host whose name was made to lead here, DNS rebinding, sends its own), where the request comes from (no page of another origin may send
//! any), and the token.

use axum::http::{HeaderMap, Method, Uri, header};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use subtle::ConstantTimeEq as _;

/// How many random bytes a token has.
const TOKEN_BYTES: usize = 32;

/// How a client has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over the Unix socket, as the daemon's own user or root.
    Unix,
    /// Over TCP, to this address of ours.
    Tcp(SocketAddr),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The host is none of our names.
    #[error("this host is not known by that name; the configuration names others (http-host)")]
    Host,
    /// A page of another origin sends it.
    #[error("pages of other sites may not do that")]
    Origin,
    /// There is no token, or a wrong one.
    #[error(
        "the token is missing or wrong: send `Authorization: Bearer TOKEN`; it is in the file `token` of the daemon's state folder"
    )]
    Token,
}

/// A token that is not shown.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in this file, which is made if there is none; only its owner may read it.
    ///
    /// # Errors
    /// If the file cannot be read or made, holds no token, or others may read it.
    pub fn load_or_make(path: &Path) -> std::io::Result<Token> {
        match std::fs::File::open(path) {
            Ok(file) => Token::read(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Token::make(path),
            Err(error) => Err(error),
        }
    }

    fn read(file: std::fs::File) -> std::io::Result<Token> {
        let wrong = |what: &str| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::mode(&file.metadata()?) & 0o077 != 0 {
            return wrong("others may read it: remove it, and a new one is made");
        }
        let mut text = String::new();
        file.take(1_024).read_to_string(&mut text)?;
        let text = text.trim();
        match text.len() >= TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(text.to_owned())),
            false => wrong("holds no token: remove it, and a new one is made"),
        }
    }

    fn make(path: &Path) -> std::io::Result<Token> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        Ok(Token(text))
    }

    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Who gets in.
#[derive(Clone, Debug)]
pub struct Access {
    /// What clients over TCP have to know; `None`: nothing.
    pub token: Option<Token>,
}

impl Access {
    /// Whether a request may be answered. `hosts` are names that this host is known by beside loopback's and its addresses.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        via: Via,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        hosts: &[String],
    ) -> Result<(), Denied> {
        let Via::Tcp(local) = via else { return Ok(()) };
        let host = one(headers, header::HOST).or_else(|| uri.authority().map(ToString::to_string));
        let host = host.filter(|host| is_ours(host, local, hosts)).ok_or(Denied::Host)?;
        if !is_same_origin(headers, &host) {
            return Err(Denied::Origin);
        }
        // What tells nothing, for those who watch whether the daemon is alive.
        if uri.path() == "/health" && method == Method::GET {
            return Ok(());
        }
        // These have tokens of their own, which players can give.
        if uri.path().starts_with("/stream/") {
            return Ok(());
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = one(headers, header::AUTHORIZATION);
        let given = given.as_deref().and_then(|text| text.split_once(' '));
        let is_right = given
            .is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()));
        if is_right { Ok(()) } else { Err(Denied::Token) }
    }
}

/// The header's value, if it is there once.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().map(str::to_owned)
}

/// Whether a `Host` names us: an address of loopback or the one that was connected to, `localhost`, or a name of the configuration.
fn is_ours(host: &str, local: SocketAddr, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
        Some(_) => return false,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == local.ip().to_canonical(),
        Err(_) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.eq_ignore_ascii_case("localhost")
                || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
        }
    }
}

/// Whether no page of another origin sends this. Programs say nothing of that; browsers do.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    if headers.contains_key(header::ORIGIN) {
        let origin = one(headers, header::ORIGIN);
        let of = origin.as_deref().and_then(|origin| origin.split_once("://"));
        return of.is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    }
    match headers.get("sec-fetch-site") {
        None => true,
        Some(site) => site == "same-origin" || site == "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:80";

    fn check(headers: &[(&'static str, &str)], path: &str) -> Result<(), Denied> {
        let access = Access { token: Some(Token("secret".to_owned())) };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let via = Via::Tcp(LOCAL.parse().unwrap());
        access.check(via, &Method::GET, &path.parse().unwrap(), &map, &["nas.example".to_owned()])
    }

    #[test]
    fn only_hosts_that_mean_us_are_answered() {
        let with = |host: &str| check(&[("host", host), ("authorization", "Bearer secret")], "/");
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "127.9.9.9:1",
            "[::1]:80",
            "[::1]",
            "localhost:80",
            "LOCALHOST.",
            "nas.example",
            "NAS.example:443",
        ] {
            assert_eq!(with(host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::1]x",
            "",
        ] {
            assert_eq!(with(host), Err(Denied::Host), "{host}");
        }
        assert_eq!(check(&[("authorization", "Bearer secret")], "/"), Err(Denied::Host));
        let twice = [("host", "localhost"), ("host", "evil.example"), ("authorization", "Bearer secret")];
        assert_eq!(check(&twice, "/"), Err(Denied::Host));
        assert_eq!(check(&[("host", "evil.example")], "/health"), Err(Denied::Host));
    }

    #[test]
    fn pages_of_other_origins_send_nothing() {
        let with = |name: &'static str, value: &str| {
            check(&[("host", "localhost:80"), ("authorization", "Bearer secret"), (name, value)], "/")
        };
        assert_eq!(with("origin", "http://localhost:80"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        assert_eq!(with("sec-fetch-site", "none"), Ok(()));
        for origin in
            ["http://evil.example", "null", "http://localhost:81", "localhost:80", "http://localhost:80.evil"]
        {
            assert_eq!(with("origin", origin), Err(Denied::Origin), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(Denied::Origin));
        assert_eq!(with("sec-fetch-site", "same-site"), Err(Denied::Origin));
    }

    #[test]
    fn a_token_is_asked_for_but_for_health() {
        let with = |value: &str| check(&[("host", "localhost"), ("authorization", value)], "/");
        assert_eq!(with("Bearer secret"), Ok(()));
        assert_eq!(with("bearer secret"), Ok(()));
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "secret", "Basic secret"] {
            assert_eq!(with(wrong), Err(Denied::Token), "{wrong}");
        }
        assert_eq!(check(&[("host", "localhost")], "/"), Err(Denied::Token));
        assert_eq!(check(&[("host", "localhost")], "/health"), Ok(()));
        assert_eq!(check(&[("host", "localhost")], "/health/x"), Err(Denied::Token));
        let unix = Access { token: Some(Token("secret".to_owned())) };
        assert_eq!(
            unix.check(Via::Unix, &Method::GET, &"/".parse().unwrap(), &HeaderMap::new(), &[]),
            Ok(())
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_token_stays_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::load_or_make(&path).unwrap();
        assert_eq!(token.0.len(), 2 * TOKEN_BYTES);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::load_or_make(&path).unwrap().0, token.0);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::load_or_make(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short\n").unwrap();
        assert!(Token::load_or_make(&path).is_err());
    }
}
