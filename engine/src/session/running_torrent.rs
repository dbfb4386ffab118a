//! A torrent as the rest of the session sees it.

use super::options::Mode;
use super::running::RunningTorrent;
use super::torrent::TorrentDriver;
use crate::Error;
use crate::id::TorrentId;
use crate::net::handshake::{Opened, Ours};
use crate::storage::{Lengths, Location, ReuseSources};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::admission::Holder;
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::ip_filter::IpFilter;
use swarm_core::net::Family;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{CloseReason, Pressure};

impl RunningTorrent for TorrentDriver {
    fn id(&self) -> TorrentId {
        self.events.id
    }

    fn is_private(&self) -> bool {
        TorrentDriver::is_private(self)
    }

    fn is_active(&self) -> bool {
        let inner = self.inner.borrow();
        inner.core.peers().next().is_some() || !inner.web.fetches.is_empty() || !inner.buffers.is_empty()
    }

    fn is_complete(&self) -> bool {
        self.inner.borrow().core.is_complete()
    }

    fn needs_peers(&self) -> bool {
        TorrentDriver::needs_peers(self)
    }

    fn lengths(&self) -> Lengths {
        let files = self.content.get().map(|content| &content.metainfo.info.files);
        Lengths::of(files.into_iter().flatten())
    }

    fn is_downloading(&self) -> bool {
        self.content.get().is_some()
            && !self.inner.borrow().core.is_complete()
            && self.options.mode == Mode::Download
    }

    fn take_from(self: Rc<Self>, sources: ReuseSources) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(TorrentDriver::take_from(self, sources))
    }

    fn location(&self) -> Option<Location> {
        self.known.location()
    }

    fn ours(&self) -> Ours {
        TorrentDriver::ours(self)
    }

    fn connected(self: Rc<Self>, opened: Opened) {
        TorrentDriver::connected(&self, opened);
    }

    fn handle_addresses(self: Rc<Self>, addrs: &[SocketAddr], origin: Origin) {
        TorrentDriver::handle_addresses(&self, addrs, origin);
    }

    fn addresses_changed(&self) {
        self.announcer.borrow_mut().handle_address_change(self.context.now());
        self.wake.notify_one();
    }

    fn port_mapped(self: Rc<Self>, external_port: Option<u16>, ours: u16) {
        let now = self.context.now();
        self.inner.borrow_mut().core.handle_mapped_port(external_port);
        self.announcer.borrow_mut().handle_port(now, Family::V4, ours);
        self.wake.notify_one();
    }

    fn limits_changed(self: Rc<Self>) {
        TorrentDriver::limits_changed(&self);
    }

    fn set_ip_filter(self: Rc<Self>, filter: Arc<IpFilter>) {
        let now = self.context.now();
        self.with(|inner| inner.core.set_ip_filter(now, filter));
    }

    fn pressure_changed(self: Rc<Self>, pressure: Pressure) {
        // A torrent that is busy right now looks at the pressure itself before it is done.
        if self.inner.try_borrow_mut().is_ok() {
            let now = self.context.now();
            self.with(|inner| inner.core.set_pressure(now, pressure));
        }
    }

    fn spill_if_full(&self) {
        TorrentDriver::spill_if_full(self);
    }

    fn frees_memory(&self) -> bool {
        TorrentDriver::frees_memory(self)
    }

    fn droppable_piece(&self, now: Time) -> Option<(bool, usize, PieceIndex)> {
        TorrentDriver::droppable_piece(self, now)
    }

    fn drop_piece(self: Rc<Self>, piece: PieceIndex) {
        let now = self.context.now();
        self.with(|inner| inner.core.drop_piece(now, piece));
    }

    fn holders(&self, now: Time) -> Vec<Holder<PeerKey>> {
        self.inner.borrow().core.holders(now).collect()
    }

    fn evict(self: Rc<Self>, key: PeerKey) {
        let now = self.context.now();
        self.with(|inner| inner.core.evict(now, key));
    }

    fn end_as(&self, error: Error) -> Vec<SocketAddr> {
        self.fail(error);
        self.peers_to_give(&self.inner.borrow())
    }

    fn abandon(&self) {
        self.inner.borrow_mut().connections.values_mut().for_each(|c| c.close(CloseReason::Stopped));
    }
}
