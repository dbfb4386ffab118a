//! Which addresses a URL may lead to.
//!
//! A metainfo file or a tracker's redirect must not make us send requests to services on this
//! machine or network that trust whoever can reach them. Names are resolved by others, so the check
//! is on the address that is actually connected to, after each redirect again.

use std::net::IpAddr;

use url::Url;

/// Who named a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UrlOrigin {
    /// A metainfo file or a magnet link, which anybody may have written.
    Metainfo,
    /// The user, who knows.
    Typed,
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// No host has this address.
    #[error("{0} is not the address of a host")]
    NotAHost(IpAddr),
    /// A tracker on this machine, named by a metainfo file, whose path does not say that it is one.
    #[error("{0} is this machine, where metainfo and links may name only paths that start with /announce")]
    Loopback(IpAddr),
    /// A link-local address that the user did not name himself.
    #[error("{0} is link-local; such a host must be named by hand")]
    LinkLocal(IpAddr),
    /// The user does not want to have anything to do with this address.
    #[error("the IP filter blocks {0}")]
    Blocked(IpAddr),
    /// A redirect from a public address to a local one.
    #[error("a public server redirects to the local address {0}")]
    Redirect(IpAddr),
    /// An address that means something on this machine or network only, where nothing of that may be asked.
    #[error("{0} is an address of this machine or network")]
    Local(IpAddr),
    /// A web seed with a query at a local address that the user did not name himself.
    #[error("{0} is a local address; a web seed with a query there must be named by hand")]
    Query(IpAddr),
}

/// Checks the address `to` that `url` leads to.
///
/// Loopback is allowed to a metainfo file if the path starts with `/announce` (libtorrent's rule:
/// what listens there expects announces), link-local only to the user. `redirected_from` is the
/// address that sent us here, if any.
///
/// # Errors
/// When it must not be connected to.
pub fn check_address(
    url: &Url,
    origin: UrlOrigin,
    to: IpAddr,
    redirected_from: Option<IpAddr>,
) -> Result<(), Forbidden> {
    let to = to.to_canonical();
    if to.is_unspecified() || to.is_multicast() || matches!(to, IpAddr::V4(ip) if ip.is_broadcast()) {
        return Err(Forbidden::NotAHost(to));
    }
    if redirected_from.is_some_and(|from| !is_local(from.to_canonical())) && is_local(to) {
        return Err(Forbidden::Redirect(to));
    }
    if origin == UrlOrigin::Typed {
        return Ok(());
    }
    if to.is_loopback() && !url.path().starts_with("/announce") {
        return Err(Forbidden::Loopback(to));
    }
    if is_link_local(to) {
        return Err(Forbidden::LinkLocal(to));
    }
    Ok(())
}

/// The same for a web seed, and one rule more: what strangers name on this network has no query, which might do more there than fetch a
/// file.
///
/// # Errors
/// When it must not be connected to.
pub fn check_web_seed_address(
    url: &Url,
    origin: UrlOrigin,
    to: IpAddr,
    redirected_from: Option<IpAddr>,
) -> Result<(), Forbidden> {
    check_address(url, origin, to, redirected_from)?;
    let to = to.to_canonical();
    if origin == UrlOrigin::Metainfo && url.query().is_some() && is_local(to) {
        return Err(Forbidden::Query(to));
    }
    Ok(())
}

/// The strictest rule: whoever names the URL is to learn nothing of this machine and network, and to move nothing there.
///
/// # Errors
/// When it must not be connected to.
pub fn check_public_address(to: IpAddr) -> Result<(), Forbidden> {
    let to = to.to_canonical();
    if is_local(to) { Err(Forbidden::Local(to)) } else { Ok(()) }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether an address means something on this machine or network only.
pub fn is_local(ip: IpAddr) -> bool {
    let private = match ip {
        // RFC 6598: between a provider and its customers, and in private networks laid over others.
        IpAddr::V4(ip) => ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    private || ip.is_loopback() || is_link_local(ip) || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, origin: UrlOrigin, to: &str, from: Option<&str>) -> Result<(), Forbidden> {
        let url = Url::parse("http://t.example").unwrap().join(path).unwrap();
        check_address(&url, origin, to.parse().unwrap(), from.map(|from| from.parse().unwrap()))
    }

    fn forbidden(result: Result<(), Forbidden>) -> bool {
        result.is_err()
    }

    #[test]
    fn public_and_private_trackers_are_allowed() {
        for to in ["93.184.216.34", "10.0.0.1", "192.168.1.1", "2606:2800:220::1", "fd00::1"] {
            for path in ["/announce", "/other"] {
                assert_eq!(check(path, UrlOrigin::Metainfo, to, None), Ok(()), "{to}{path}");
            }
        }
    }

    #[test]
    fn loopback_from_a_metainfo_file_must_look_like_a_tracker() {
        for to in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for path in ["/announce", "/announce.php?x=1"] {
                assert_eq!(check(path, UrlOrigin::Metainfo, to, None), Ok(()), "{to}{path}");
            }
            for path in ["/", "/x/announce", "/Announce"] {
                assert!(forbidden(check(path, UrlOrigin::Metainfo, to, None)), "{to}{path}");
                assert_eq!(check(path, UrlOrigin::Typed, to, None), Ok(()), "{to}{path}");
            }
        }
    }

    #[test]
    fn link_local_is_for_the_user() {
        for to in ["169.254.1.1", "169.254.169.254", "fe80::1"] {
            assert!(forbidden(check("/announce", UrlOrigin::Metainfo, to, None)), "{to}");
            assert_eq!(check("/announce", UrlOrigin::Typed, to, None), Ok(()), "{to}");
        }
    }

    #[test]
    fn strangers_name_no_query_on_this_network() {
        let check = |path: &str, origin, to: &str| {
            let url = Url::parse("http://t.example").unwrap().join(path).unwrap();
            check_web_seed_address(&url, origin, to.parse().unwrap(), None)
        };
        assert!(forbidden(check("/f?do=x", UrlOrigin::Metainfo, "192.168.1.1")));
        assert!(forbidden(check("/f", UrlOrigin::Metainfo, "127.0.0.1")));
        assert_eq!(check("/f", UrlOrigin::Metainfo, "192.168.1.1"), Ok(()));
        assert_eq!(check("/f?signed=x", UrlOrigin::Metainfo, "93.184.216.34"), Ok(()));
        assert_eq!(check("/f?do=x", UrlOrigin::Typed, "192.168.1.1"), Ok(()));
    }

    #[test]
    fn the_strictest_rule_lets_public_addresses_pass_alone() {
        for to in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "fd00::1",
            "fe80::1",
        ] {
            let to = to.parse().unwrap();
            assert!(forbidden(check_public_address(to)), "{to}");
        }
        for to in ["93.184.216.34", "100.128.0.1", "172.32.0.1", "2606:2800:220::1"] {
            assert_eq!(check_public_address(to.parse().unwrap()), Ok(()), "{to}");
        }
    }

    #[test]
    fn what_is_no_host_is_for_nobody() {
        for to in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(forbidden(check("/announce", UrlOrigin::Typed, to, None)), "{to}");
        }
    }

    #[test]
    fn redirects_do_not_lead_from_outside_in() {
        for to in ["127.0.0.1", "10.0.0.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"] {
            let outside = check("/announce", UrlOrigin::Typed, to, Some("93.184.216.34"));
            assert_eq!(outside, Err(Forbidden::Redirect(to.parse().unwrap())));
            assert_eq!(check("/announce", UrlOrigin::Typed, to, Some("192.168.0.1")), Ok(()), "{to}");
        }
        assert_eq!(check("/announce", UrlOrigin::Metainfo, "1.1.1.1", Some("9.9.9.9")), Ok(()));
    }
}
