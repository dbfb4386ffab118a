//! Fetching metadata: what a link leaves to peers to say.

use crate::app::Context;
use crate::events::Record;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::network::NetworkArgs;
use crate::progress::{self, BAR_INTERVAL, FetchBar, LINE_INTERVAL};
use crate::source::Link;
use crate::transfer::interrupted;
use anyhow::{Context as _, Result};
use std::future::pending;
use std::ops::ControlFlow;
use std::time::Duration;
use swarm_core::metainfo::Magnet;
use swarm_engine::{Event, FetchStatus, Fetched, Fetching, Session};
use tokio::time::{Instant, interval, interval_at, sleep_until};

/// How often scripts are told.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the user waits, and what for.
pub struct Limit {
    end: Instant,
    time: Duration,
}

impl Limit {
    /// From now on.
    pub fn new(time: Duration) -> Limit {
        Limit { end: Instant::now() + time, time }
    }
}

/// Waits until the DHT has told where a pointer points to, and peers what the torrent of the link is. A `limit` ends it with
/// status 1.
pub async fn metadata(
    link: Link,
    network: &NetworkArgs,
    session: &Session,
    limit: Option<Limit>,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Fetched> {
    let label = link.label();
    let bar = FetchBar::new(&cx.console, &label);
    let fetched = async {
        let magnet = match link {
            Link::Magnet(magnet) => magnet,
            Link::Pointer(pointer) => {
                cx.console.note(&format!("{label}: resolving the mutable torrent in the DHT"));
                let info_hash = session.follow(pointer).await.with_context(|| label.clone())?;
                cx.console.note(&format!("{label}: resolved to {info_hash}"));
                Magnet::new(info_hash)
            }
        };
        cx.console.note(&format!("{label}: fetching metadata"));
        let fetching = session.fetch_metadata(network.fetch(magnet));
        follow(fetching, &label, &bar, network.tuning.progress_interval, cx)
            .await
            .with_context(|| label.clone())
    };
    let fetched = tokio::select! {
        fetched = fetched => fetched,
        signal = interrupt.wait() => Err(interrupted(signal, &label)),
        message = too_late(limit, &label) => Err(Failure::new(Exit::Runtime, message).into()),
    };
    bar.finish();
    fetched
}

/// What to say when the time is up.
async fn too_late(limit: Option<Limit>, label: &str) -> String {
    let Some(Limit { end, time }) = limit else { return pending().await };
    sleep_until(end).await;
    format!("{label}: not found within {}", humantime::format_duration(time))
}

/// Tells what happens until the metadata is here.
async fn follow(
    mut fetching: Fetching,
    label: &str,
    bar: &FetchBar,
    tell_every: Option<Duration>,
    cx: &mut Context,
) -> Result<Fetched> {
    let every = |usual: Duration| {
        let time = tell_every.unwrap_or(usual);
        interval_at(Instant::now() + time, time)
    };
    let mut redraw = interval(BAR_INTERVAL);
    let mut event = every(EVENT_INTERVAL);
    let mut line = every(LINE_INTERVAL);
    loop {
        tokio::select! {
            step = fetching.next() => match step {
                ControlFlow::Continue(Event::PeerBanned { addr, reason }) => {
                    cx.record(&Record::PeerBanned { address: addr, reason: &reason });
                    cx.console.note(&format!("{addr}: banned: {reason}"));
                }
                ControlFlow::Continue(Event::Warning(message)) => cx.warn(&message),
                ControlFlow::Continue(_) => {}
                ControlFlow::Break(result) => return Ok(result?),
            },
            _ = redraw.tick() => bar.show(&fetching.status()),
            _ = event.tick() => {
                let FetchStatus { peers, waiting, .. } = fetching.status();
                cx.record(&Record::Fetching { peers, waiting: waiting.map(|why| why.to_string()) });
            }
            _ = line.tick() => if !cx.console.has_bars() {
                cx.console.note(&format!("{label}: {}", progress::fetching(&fetching.status())));
            },
        }
    }
}
