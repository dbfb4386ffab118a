//! What a proxy before us says of a client: the host and the scheme that the client used, and its address. Only that of the configured
//! proxies is believed; anybody can send such headers.

use super::Via;
use crate::config::Rules;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use std::net::{IpAddr, SocketAddr};
use swarm_engine::IpFilter;

/// The scheme that the client used, as far as a proxy says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheme {
    /// HTTPS.
    pub is_https: bool,
}

/// Takes over what a proxy says: `Host` becomes the one that the client used, and the far end of `via` the client. Says which scheme it used.
pub fn unwrap(via: &mut Via, uri: &mut Uri, headers: &mut HeaderMap, rules: &Rules) -> Scheme {
    let Via::Tcp { peer, .. } = via else { return Scheme::default() };
    if rules.proxies.is_empty() {
        return Scheme::default();
    }
    let proxies = IpFilter::new(rules.proxies.iter().copied());
    if !proxies.is_blocked(peer.ip()) {
        return Scheme::default();
    }
    // Each proxy adds to the end: what stands before it comes from the client, who may say anything.
    if let Some(host) = last(headers, "x-forwarded-host").and_then(|host| HeaderValue::from_str(&host).ok()) {
        headers.insert(header::HOST, host);
        // The host of a whole URL would come before it.
        if let Some(path) = uri.path_and_query().cloned() {
            *uri = Uri::from(path);
        }
    }
    if let Some(client) = client(headers, &proxies) {
        *peer = SocketAddr::new(client, peer.port());
    }
    let scheme = last(headers, "x-forwarded-proto");
    Scheme { is_https: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) }
}

/// The last of the addresses that is none of a proxy of ours.
fn client(headers: &HeaderMap, proxies: &IpFilter) -> Option<IpAddr> {
    let all: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for text in all.into_iter().rev() {
        let ip: IpAddr = text.trim().trim_matches(['[', ']']).parse().ok()?;
        if !proxies.is_blocked(ip) {
            return Some(ip.to_canonical());
        }
    }
    None
}

fn last(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    let value = value.rsplit(',').next()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(from: &str, given: &[(&'static str, &str)]) -> (String, IpAddr, bool) {
        let rules = Rules {
            proxies: vec![IpAddr::from([127, 0, 0, 1]).into(), IpAddr::from([10, 0, 0, 9]).into()],
            ..Rules::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost:6868"));
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        let mut via = Via::Tcp { local: "127.0.0.1:6868".parse().unwrap(), peer: from.parse().unwrap() };
        let mut uri = "/".parse().unwrap();
        let scheme = unwrap(&mut via, &mut uri, &mut headers, &rules);
        let Via::Tcp { peer, .. } = via else { unreachable!() };
        (headers[header::HOST].to_str().unwrap().to_owned(), peer.ip(), scheme.is_https)
    }

    #[test]
    fn only_proxies_of_the_configuration_are_believed() {
        let given = [
            ("x-forwarded-host", "nas.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(seen("127.0.0.1:5", &given), ("nas.example".into(), client, true));
        let other: IpAddr = "127.0.0.2".parse().unwrap();
        assert_eq!(seen("127.0.0.2:5", &given), ("localhost:6868".into(), other, false));
    }

    #[test]
    fn what_a_client_puts_before_the_word_of_a_proxy_counts_for_nothing() {
        let given = [
            ("x-forwarded-host", "evil.example, nas.example"),
            ("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.9"),
            ("x-forwarded-proto", "https, http"),
        ];
        assert_eq!(seen("127.0.0.1:5", &given), ("nas.example".into(), "192.0.2.7".parse().unwrap(), false));
        let nonsense = [("x-forwarded-for", "192.0.2.7, x"), ("x-forwarded-host", "")];
        let same: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(seen("127.0.0.1:5", &nonsense), ("localhost:6868".into(), same, false));
    }
}
