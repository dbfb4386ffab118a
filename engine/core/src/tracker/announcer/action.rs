//! What an announcer asks for, and why that may fail.

use url::Url;

use crate::net::Family;
use crate::tracker::access::{Forbidden, UrlOrigin};
use crate::tracker::announce::AnnounceRequest;
use crate::tracker::reply::ReplyError;

/// Names one announce, never reused by an announcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceId(pub(super) u64);

/// An announce that the shell is to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceAction {
    /// To be given back with the response.
    pub id: AnnounceId,
    /// The tracker's URL: `http` or `https`, to be combined with `request` by [`AnnounceRequest::url`], or `udp`,
    /// to be asked by a [`udp::Client`](crate::tracker::udp::Client).
    pub url: Url,
    /// Who named the tracker, which decides where the URL may lead; see
    /// [`check_address`](crate::tracker::access::check_address).
    pub origin: UrlOrigin,
    /// The address family to connect over.
    pub family: Family,
    /// What to say.
    pub request: AnnounceRequest,
}

/// Why an announce did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceFailure {
    /// The tracker answered, but not with peers.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// An HTTP status other than 200.
    #[error("the tracker answered with HTTP status {0}")]
    Status(u16),
    /// The tracker's host has no address of the family that was asked for.
    #[error("the tracker has no {0} address")]
    NoAddress(Family),
    /// The tracker is where it must not be asked.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// No answer: resolving, connecting, TLS, time. The text says what.
    #[error("{0}")]
    Unreachable(String),
}
