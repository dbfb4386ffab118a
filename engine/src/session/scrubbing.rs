//! Reading all data again over time, to find what has rotted before somebody asks for it.
//!
//! The torrents of a session take turns, a round each: so the disk is read at the rate of one of them.

use super::disk::{DiskResult, Scrubbing};
use super::torrent::TorrentDriver;
use crate::hash::Lane;
use std::rc::Rc;
use swarm_core::picker::Priority;
use swarm_core::scrub::{Next, Scrub};
use swarm_core::time::Time;

impl TorrentDriver {
    /// Whether there is something to scrub, and it is to be.
    pub(super) fn is_to_be_scrubbed(&self) -> bool {
        self.content.get().is_some() && self.changed.borrow().scrub.is_some()
    }

    /// Reads everything again and again, until it is to be so no more.
    pub(super) async fn scrub(self: Rc<Self>) {
        let mut scrub = Scrub::new(1, self.content().storage.scrubbed());
        let mut turn = None;
        loop {
            let Some(rate) = self.changed.borrow().scrub else { return };
            if turn.is_none() {
                turn = self.context.scrubs.acquire().await.ok();
                continue;
            }
            scrub.set_rate(rate);
            let now = self.context.now();
            let next = scrub.poll(now, self.inner.borrow().core.have());
            match next {
                Next::Read(piece) => {
                    self.submit(Lane::Check, move |storage| DiskResult::Scrubbed {
                        piece,
                        result: storage.scrub_piece(piece),
                    });
                    self.scrubbing().read.notified().await;
                    let len = self.content().metainfo.info.geometry.len_of(piece);
                    scrub.handle_read(now, len.into());
                }
                Next::Wait(until) => self.wait_to_scrub(until).await,
                Next::RoundOver(until) => {
                    turn = None;
                    self.wait_to_scrub(until).await;
                }
            }
        }
    }

    fn scrubbing(&self) -> &Scrubbing {
        self.scrubbing.get_or_init(Default::default)
    }

    async fn wait_to_scrub(&self, until: Time) {
        tokio::select! {
            () = tokio::time::sleep_until(self.context.instant(until)) => {}
            () = self.scrubbing().changed.notified() => {}
        }
    }

    /// Another rate, or none: what has rotted is fetched again only with one, where nothing else is written.
    pub(super) fn on_scrub_set(&self) {
        self.scrubbing.get().iter().for_each(|scrub| scrub.changed.notify_one());
        let Some(content) = self.content.get() else { return };
        let before = content.storage.mendable();
        content.storage.set_mending(self.changed.borrow().scrub.is_some());
        let now = content.storage.mendable();
        let priority = if now.is_empty() { Priority::SKIP } else { Priority::NORMAL };
        if before.len() != now.len() {
            self.inner.borrow_mut().disk.unchecked().mending.extend(now.iter().copied());
            let pieces = before.into_iter().chain(now).map(|piece| (piece, priority));
            self.inner.borrow_mut().core.set_priorities(self.context.now(), pieces);
        }
    }
}
