//! Fetching metadata: what a link leaves to peers to say.

use crate::app::Context;
use crate::events::Record;
use crate::exit::printable;
use crate::interrupt::Interrupt;
use crate::network::NetworkArgs;
use crate::progress::FetchBar;
use crate::transfer::interrupted;
use crate::units;
use anyhow::{Context as _, Result};
use std::ops::ControlFlow;
use std::time::Duration;
use swarm_core::metainfo::Magnet;
use swarm_engine::{Event, Fetched, Session};
use tokio::time::{Instant, interval, interval_at};

/// How often the bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// How often those who see no bar get a line.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Waits until peers have told what the torrent of this link is.
pub async fn metadata(
    magnet: Magnet,
    network: &NetworkArgs,
    session: &Session,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Fetched> {
    let name = magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string());
    let label = printable(&name);
    cx.console.note(&format!("{label}: fetching metadata"));
    let bar = FetchBar::new(&cx.console, &label);
    let mut fetching = session.fetch_metadata(network.fetch(magnet));
    let mut redraw = interval(BAR_INTERVAL);
    let mut line = interval_at(Instant::now() + LINE_INTERVAL, LINE_INTERVAL);
    loop {
        tokio::select! {
            step = fetching.next() => match step {
                ControlFlow::Continue(Event::PeerBanned { addr, reason }) => {
                    cx.record(&Record::PeerBanned { address: addr, reason: &reason });
                    cx.console.note(&format!("{addr}: banned: {reason}"));
                }
                ControlFlow::Continue(Event::Warning(message)) => cx.warn(&message),
                ControlFlow::Continue(_) => {}
                ControlFlow::Break(result) => {
                    bar.finish();
                    return result.with_context(|| label.clone());
                }
            },
            _ = redraw.tick() => bar.show(fetching.peers()),
            _ = line.tick() => if !cx.console.has_bars() {
                let peers = units::count(fetching.peers(), "peer");
                cx.console.note(&format!("{label}: fetching metadata, {peers}"));
            },
            () = interrupt.wait() => {
                bar.finish();
                return Err(interrupted(&label));
            }
        }
    }
}
