//! Ranges of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It names no addresses.
    #[error("names no range of addresses")]
    NoRange,
    /// The last address comes before the first one.
    #[error("names a range that ends before it begins")]
    Backwards,
    /// One address is of IPv4, the other of IPv6.
    #[error("names a range from IPv4 to IPv6")]
    TwoFamilies,
    /// A prefix of more bits than the addresses have.
    #[error("names a prefix longer than an address")]
    PrefixTooLong,
    /// It is far longer than any that says something.
    #[error("is too long")]
    TooLong,
}

/// Addresses from one to another, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange(pub(super) Bounds);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    V4(u32, u32),
    V6(u128, u128),
}

impl From<IpAddr> for IpRange {
    fn from(ip: IpAddr) -> IpRange {
        match ip.to_canonical() {
            IpAddr::V4(ip) => IpRange(Bounds::V4(ip.to_bits(), ip.to_bits())),
            IpAddr::V6(ip) => IpRange(Bounds::V6(ip.to_bits(), ip.to_bits())),
        }
    }
}

impl IpRange {
    /// From `first` to `last`. IPv4-mapped IPv6 addresses are IPv4.
    ///
    /// # Errors
    /// If they are of two families, or `last` comes before `first`.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<IpRange, LineError> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                Ok(IpRange(Bounds::V4(first.to_bits(), last.to_bits())))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                Ok(IpRange(Bounds::V6(first.to_bits(), last.to_bits())))
            }
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Err(LineError::Backwards),
            _ => Err(LineError::TwoFamilies),
        }
    }

    /// The network of `ip` whose addresses have their first `prefix_len` bits in common.
    ///
    /// # Errors
    /// If addresses of this family have fewer bits.
    pub fn network(ip: IpAddr, prefix_len: u32) -> Result<IpRange, LineError> {
        let too_long = LineError::PrefixTooLong;
        let (first, last): (IpAddr, IpAddr) = match ip {
            IpAddr::V4(ip) => {
                let host_bits = 32_u32.checked_sub(prefix_len).ok_or(too_long)?;
                let hosts = u32::MAX.checked_shr(32 - host_bits).unwrap_or(0);
                let ip = ip.to_bits();
                (Ipv4Addr::from_bits(ip & !hosts).into(), Ipv4Addr::from_bits(ip | hosts).into())
            }
            IpAddr::V6(ip) => {
                let host_bits = 128_u32.checked_sub(prefix_len).ok_or(too_long)?;
                let hosts = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
                let ip = ip.to_bits();
                (Ipv6Addr::from_bits(ip & !hosts).into(), Ipv6Addr::from_bits(ip | hosts).into())
            }
        };
        IpRange::new(first, last)
    }

    /// How many more addresses it has than one.
    pub(super) fn span(self) -> u128 {
        match self.0 {
            Bounds::V4(first, last) => u128::from(last - first),
            Bounds::V6(first, last) => last - first,
        }
    }
}
