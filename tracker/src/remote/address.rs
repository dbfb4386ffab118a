//! Where the store is. Its password is never shown.

use std::fmt;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// The store that several trackers share: Redis 6.2 or newer, or what speaks like it.
#[derive(Clone)]
pub struct SharedStore {
    pub(super) client: Client,
    shown: String,
}

/// Why a store cannot be used. No password is in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedStoreError {
    /// It is not a URL of a store.
    #[error("a store is redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS: {0}")]
    Url(String),
    /// What is to be trusted over TLS cannot be used.
    #[error("the certificates to trust cannot be used: {0}")]
    Certificates(String),
    /// It does not let us do what we have to.
    #[error("the store {store} refuses us: {reason}")]
    Refused {
        /// The store.
        store: String,
        /// What it says, and the mend if we know it.
        reason: String,
    },
}

impl SharedStore {
    /// Reads `redis://USER:PASSWORD@HOST:PORT/DB`, or `rediss://` for TLS. `trusted` are certificates in PEM;
    /// without them those are trusted that the system trusts.
    ///
    /// # Errors
    /// When the URL or the certificates make no sense.
    pub fn new(url: &str, trusted: Option<&[u8]>) -> Result<SharedStore, SharedStoreError> {
        let wrong = |why: &str| SharedStoreError::Url(why.to_owned());
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        let secure = matches!(scheme, Some("rediss" | "valkeys"));
        if !secure && !matches!(scheme, Some("redis" | "valkey")) {
            return Err(wrong("it does not begin with redis:// or rediss://"));
        }
        if url.contains(['?', '#']) {
            return Err(wrong("it has a ? or a #; in a password these are %3F and %23"));
        }
        // What the parser says may show a part of the password.
        let parsed = redis::parse_redis_url(url).ok_or_else(|| wrong("it makes no sense"))?;
        let info: ConnectionInfo =
            parsed.into_connection_info().map_err(|error| SharedStoreError::Url(error.to_string()))?;
        let redis = info.redis_settings();
        if redis.username().is_some() && redis.password().is_none() {
            return Err(wrong("it has a user without a password"));
        }
        let shown = shown(&info, secure);
        // It would be one more command to allow.
        let redis = redis.clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(redis);
        let client = match trusted {
            _ if !secure => Client::open(info).map_err(|error| SharedStoreError::Url(error.to_string()))?,
            None => Client::open(info).map_err(|error| SharedStoreError::Url(error.to_string()))?,
            Some(pem) => {
                let wrong = |why: String| SharedStoreError::Certificates(why);
                let count = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
                if count.map_err(|error| wrong(error.to_string()))?.is_empty() {
                    return Err(wrong("there is no certificate in PEM".into()));
                }
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.to_owned()) };
                Client::build_with_tls(info, certificates).map_err(|error| wrong(error.to_string()))?
            }
        };
        Ok(SharedStore { client, shown })
    }
}

fn shown(info: &ConnectionInfo, secure: bool) -> String {
    let (host, port) = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.as_str(), *port),
        _ => ("", 0),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let user = info.redis_settings().username().map(|user| format!("{user}@")).unwrap_or_default();
    format!(
        "{}://{user}{host}:{port}/{}",
        if secure { "rediss" } else { "redis" },
        info.redis_settings().db()
    )
}

/// As it may be shown.
impl fmt::Display for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedStore").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_the_password() {
        for (url, expected) in [
            ("redis://user:secret@store.example:7000/2", "redis://user@store.example:7000/2"),
            ("redis://:secret@127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("rediss://u:s%23ecret@[::1]:1/", "rediss://u@[::1]:1/0"),
            ("valkey://store.example", "redis://store.example:6379/0"),
        ] {
            let store = SharedStore::new(url, None).unwrap();
            assert_eq!(store.to_string(), expected);
            assert!(!format!("{store:?}").contains("ecret"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_without_the_password() {
        let urls = [
            "store.example:6379",
            "http://user:secret@store.example",
            "redis://user@store.example",
            "redis://user:secret@store.example/zero",
            "redis://user:se#cret@store.example",
            "rediss://user:secret@store.example#insecure",
            "redis://user:secret@",
            "redis://user:sec ret@store.example:99999",
        ];
        for url in urls {
            let error = SharedStore::new(url, None).unwrap_err().to_string();
            assert!(error.starts_with("a store is redis://USER"), "{url}: {error}");
            assert!(!error.contains("secret") && !error.contains('\n'), "{url}: {error}");
        }
        let none = SharedStore::new("rediss://store.example", Some(b"nothing")).unwrap_err();
        assert!(none.to_string().contains("no certificate"), "{none}");
    }
}
