//! Which names and which origins a request may come with.

use axum::http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};

/// The header's value, if it is there once.
pub(super) fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().map(str::to_owned)
}

/// Whether a `Host` names us: an address of loopback or the one that was connected to, `localhost`, or a name of the configuration.
pub(super) fn is_ours(host: &str, local: SocketAddr, hosts: &[String]) -> bool {
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
pub(super) fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
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
