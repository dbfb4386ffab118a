//! `/api/v1/events`: what happens, as server-sent events.

use super::error::{ApiError, ErrorBody};
use super::torrents::{PathOf, Result, find};
use super::{App, AppState};
use crate::notice::{Notice, What};
use crate::torrents::Id;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

/// How many streams of events may be open.
const STREAMS_MAX: usize = 64;

/// How long the page is left alone after each event.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(800);

/// What of the events is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those of this torrent: its number or info-hash.
    torrent: Option<String>,
}

/// A place among the streams.
struct Place(Arc<App>);

impl Place {
    fn take(app: &Arc<App>) -> Result<Place> {
        let taken =
            app.streams.fetch_update(Relaxed, Relaxed, |open| (open < STREAMS_MAX).then_some(open + 1));
        let message = format!("{STREAMS_MAX} streams of events are open already");
        let busy = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        taken.map_err(busy).map(|_| Place(Arc::clone(app)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Tells what happens, as server-sent events: each an object with `event`, and `id` if it is about a torrent
///
/// `torrent` has a torrent as lists show it, whenever it shows something new, once a second at most while data moves. `missed` says that
/// the client was too slow: it should list what came since the last revision that it knows.
#[utoipa::path(get, path = "/api/v1/events", params(EventsQuery),
    responses((status = 200, content_type = "text/event-stream"), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn events(
    State(app): AppState,
    query: std::result::Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let only = wanted(&app, query)?;
    let place = Place::take(&app)?;
    let first = (app.notices.subscribe(), app.stopping.clone(), place);
    let stream = unfold(first, move |(mut notices, mut stopping, place)| async move {
        let notice = tokio::select! {
            notice = next(&mut notices, only) => notice?,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        let event = Event::default().json_data(&notice).unwrap_or_default();
        Some((Ok(event), (notices, stopping, place)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Tells the page that it should look again: the table's revision, once a second at most. Of one torrent if it is named.
pub async fn changes(
    State(app): AppState,
    query: std::result::Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let only = wanted(&app, query)?;
    let place = Place::take(&app)?;
    let table = app.table.clone();
    let first = (app.notices.subscribe(), app.stopping.clone(), place);
    let stream = unfold(first, move |(mut notices, mut stopping, place)| {
        let table = table.clone();
        async move {
            let seen = async {
                next(&mut notices, only).await?;
                tokio::time::sleep(LOOK_INTERVAL).await;
                // What came meanwhile is seen by the same look.
                notices = notices.resubscribe();
                Some(())
            };
            tokio::select! {
                seen = seen => seen?,
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
            let event = Event::default().data(table.read().revision().to_string());
            Some((Ok(event), (notices, stopping, place)))
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// The torrent that is asked for, if it is one.
fn wanted(app: &App, query: std::result::Result<Query<EventsQuery>, QueryRejection>) -> Result<Option<Id>> {
    let Query(query) = query?;
    query.torrent.map(|name| Ok(find(app, PathOf::Ok(Path(name)))?.summary.id)).transpose()
}

async fn next(notices: &mut Receiver<Notice>, only: Option<Id>) -> Option<Notice> {
    loop {
        match notices.recv().await {
            Ok(notice) if only.is_none() || notice.id == only => return Some(notice),
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => return Some(Notice { id: None, what: What::Missed { count } }),
            Err(RecvError::Closed) => return None,
        }
    }
}
