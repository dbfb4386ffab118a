//! The session's IP filter: in force for all torrents, the DHT and trackers, read again when its file changes.

use super::context::Context;
use super::event::Event;
use super::filter_state::{Blocked, What};
use crate::Error;
use crate::hash::Lane;
use crate::ip_filter::{self, IpFilterSource, Loaded, Look, Stamp, Watch};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::ip_filter::{IpFilter, IpRange};
use swarm_core::time::Duration;

/// How often it is reported at most how much was refused.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Of a file without an error and without a range.
const NAMES_NOTHING: &str = "names no addresses";

impl Context {
    /// The filter in force.
    pub(super) fn ip_filter(&self) -> Arc<IpFilter> {
        Arc::clone(&self.filter.filter.borrow())
    }

    /// The same for peers, some of whom may be banned beside it.
    pub(super) fn peer_filter(&self) -> Arc<IpFilter> {
        Arc::clone(&self.filter.of_peers.borrow())
    }

    /// From now on peers at these addresses are banned, and no others.
    pub(super) fn set_banned(&self, addresses: &[IpAddr]) {
        *self.filter.banned.borrow_mut() = addresses.iter().copied().map(IpRange::from).collect();
        self.filter_peers();
    }

    fn filter_peers(&self) {
        let filter = self.ip_filter();
        let banned = self.filter.banned.borrow();
        let filter = match banned.is_empty() {
            true => filter,
            false => Arc::new(filter.and(banned.iter().copied())),
        };
        *self.filter.of_peers.borrow_mut() = Arc::clone(&filter);
        for utp in &*self.utps.borrow() {
            utp.set_ip_filter(Arc::clone(&filter));
        }
        self.torrents.all().into_iter().for_each(|torrent| torrent.set_ip_filter(Arc::clone(&filter)));
    }

    /// The filter has refused something, so many times.
    pub(super) fn on_blocked(&self, what: What, times: u64) {
        if times > 0 {
            let mut blocked = self.filter.blocked.get();
            match what {
                What::Incoming => blocked.incoming += times,
                What::Address => blocked.addresses += times,
                What::Tracker => blocked.trackers += times,
            }
            self.filter.blocked.set(blocked);
            self.tell_blocked(false);
        }
    }

    /// Reports how much was refused, if that is news; at the end also if it was reported just now.
    pub(super) fn tell_blocked(&self, at_end: bool) {
        let (reported_at, reported) = self.filter.reported.get();
        let (now, blocked) = (self.now(), self.filter.blocked.get());
        let is_time = at_end || reported_at.is_none_or(|at| now.since(at) >= REPORT_INTERVAL);
        if blocked != reported && is_time {
            self.filter.reported.set((Some(now), blocked));
            let Blocked { incoming, addresses, trackers } = blocked;
            tracing::info!(incoming, addresses, trackers, "blocked by the IP filter so far");
            self.emit(Event::IpFilterBlocked { incoming, addresses, trackers });
        }
    }

    /// From now on this filter is in force, or none.
    pub(super) fn set_ip_filter(&self, filter: Option<Sourced>) {
        let (source, loaded) = filter.unzip();
        let is_file = matches!(source, Some(IpFilterSource::File(_)));
        let stamp = loaded.as_ref().and_then(|loaded| loaded.stamp);
        *self.filter.watch.borrow_mut() = is_file.then(|| Watch::new(stamp));
        *self.filter.source.borrow_mut() = source;
        match loaded {
            Some(loaded) => self.apply(loaded),
            None => self.put_in_force(Arc::default()),
        }
    }

    fn apply(&self, Loaded { filter, bad, bad_lines, .. }: Loaded) {
        let ranges = filter.ranges();
        tracing::info!(ranges, bad_lines, bytes = filter.memory(), "an IP filter is in force");
        self.put_in_force(filter);
        self.emit(Event::IpFilterLoaded { ranges, bad_lines });
        let is_file = matches!(&*self.filter.source.borrow(), Some(IpFilterSource::File(_)));
        if ranges == 0 && is_file {
            self.emit(Event::Warning(format!("{}: {NAMES_NOTHING}; nothing is blocked", self.filter_file())));
        }
        if bad_lines > 0 {
            let file = self.filter_file();
            let more = bad_lines - bad.len() as u64;
            let mut lines: Vec<String> = bad.iter().map(ToString::to_string).collect();
            if more > 0 {
                lines.push(format!("{more} more say nothing"));
            }
            self.emit(Event::Warning(format!("{file}: {}; passed over", lines.join("; "))));
        }
    }

    fn put_in_force(&self, filter: Arc<IpFilter>) {
        *self.filter.filter.borrow_mut() = Arc::clone(&filter);
        self.web_seed_clients.set_filter(Arc::clone(&filter));
        for dht in self.dht.borrow().iter().flat_map(|ours| &ours.dhts) {
            dht.set_ip_filter(Arc::clone(&filter));
        }
        self.filter_peers();
    }

    fn filter_file(&self) -> String {
        match &*self.filter.source.borrow() {
            Some(IpFilterSource::File(file)) => file.display().to_string(),
            _ => String::new(),
        }
    }

    /// Something that concerns no torrent alone.
    pub(super) fn emit(&self, event: Event) {
        self.events.send(&(None, event));
    }
}

/// A filter, and where it is from.
pub(super) type Sourced = (IpFilterSource, Loaded);

/// Reads a filter.
pub(super) fn load(source: &IpFilterSource) -> Result<Sourced, Error> {
    match ip_filter::load(source) {
        Ok(loaded) => Ok((source.clone(), loaded)),
        Err(error) => {
            let file = match source {
                IpFilterSource::File(file) => file.clone(),
                IpFilterSource::Ranges(_) => PathBuf::new(),
            };
            Err(Error::IpFilter { file, source: Arc::new(error) })
        }
    }
}

/// Reads a filter on a worker, and puts it in force.
pub(super) async fn replace(context: &Context, source: Option<IpFilterSource>) -> Result<(), Error> {
    let filter = match source {
        Some(source) => Some(context.on_worker(Lane::Transfer, move || load(&source)).await??),
        None => None,
    };
    context.set_ip_filter(filter);
    Ok(())
}

/// Looks at the filter's file now and then, for as long as the session lives.
pub(super) async fn watch(context: Rc<Context>) {
    loop {
        tokio::time::sleep(context.options.ip_filter_interval).await;
        context.tell_blocked(false);
        let source = context.filter.source.borrow().clone();
        let Some(IpFilterSource::File(file)) = source else { continue };
        let looked_at = file.clone();
        let now = context.on_worker(Lane::Check, move || Stamp::now(&looked_at)).await;
        let Ok(now) = now else { continue };
        let look = match &mut *context.filter.watch.borrow_mut() {
            Some(watch) => watch.handle_look(now.as_ref().ok().copied()),
            None => Look::Rest,
        };
        let trouble = match (look, now) {
            (Look::Rest, _) => continue,
            (Look::Read, _) => {
                let source = IpFilterSource::File(file.clone());
                match context.on_worker(Lane::Check, move || load(&source)).await {
                    // Another may have been set meanwhile.
                    Ok(Ok(_)) if context.filter_file() != file.display().to_string() => continue,
                    // Programs that write a list in place begin with an empty file.
                    Ok(Ok((_, loaded))) if loaded.filter.is_empty() && !context.ip_filter().is_empty() => {
                        format!("{}: {NAMES_NOTHING}", file.display())
                    }
                    Ok(Ok((_, loaded))) => {
                        context.apply(loaded);
                        continue;
                    }
                    Ok(Err(error)) | Err(error) => error.to_string(),
                }
            }
            (Look::Gone, Err(error)) => format!("{}: {error}", file.display()),
            (Look::Gone, Ok(_)) => continue,
        };
        context.emit(Event::Warning(format!("{trouble}; the IP filter stays as it was")));
    }
}
