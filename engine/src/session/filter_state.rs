//! What the session keeps about its IP filter; `ip_filter` is what is done with it.

use crate::ip_filter::{IpFilterSource, Watch};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use swarm_core::ip_filter::{IpFilter, IpRange};
use swarm_core::time::Time;

/// What is in force, and how much it has refused.
#[derive(Default)]
pub(super) struct SessionFilter {
    pub(super) filter: RefCell<Arc<IpFilter>>,
    /// Addresses that are banned for peers.
    pub(super) banned: RefCell<Vec<IpRange>>,
    /// The filter with these.
    pub(super) of_peers: RefCell<Arc<IpFilter>>,
    pub(super) source: RefCell<Option<IpFilterSource>>,
    pub(super) watch: RefCell<Option<Watch>>,
    pub(super) blocked: Cell<Blocked>,
    /// When it was last reported how much was refused, and how much that was.
    pub(super) reported: Cell<(Option<Time>, Blocked)>,
}

/// How much was refused since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocked {
    pub(super) incoming: u64,
    pub(super) addresses: u64,
    pub(super) trackers: u64,
}

/// What the filter refuses.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A connection that somebody dialled to us.
    Incoming,
    /// An address that somebody named for a peer.
    Address,
    /// A request to a tracker.
    Tracker,
}
