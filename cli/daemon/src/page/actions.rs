//! What is done with torrents from the list and from their own pages.

use super::detail::NameOf;
use super::{Ctx, Fault, Fields, Frame, PageResult, format, html};
use crate::torrents::{Edit, Id, Place};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use futures_util::stream::{StreamExt as _, iter};
use std::collections::BTreeSet;
use swarm_engine::Data;
use url::form_urlencoded;

/// How many removals are asked for at the same time.
const REMOVALS_AT_ONCE: usize = 16;
/// How many names a question shows.
const NAMES_MAX: usize = 8;

/// What a button means.
enum Action {
    Edit(Box<Edit>),
    Reannounce,
}

/// What a button means, and what is said once it is done.
fn action(name: &str) -> PageResult<(Action, &'static str)> {
    let edit = |edit: Edit, said| Ok((Action::Edit(Box::new(edit)), said));
    let paused = |paused| Edit { paused: Some(paused), ..Edit::default() };
    let forced = |forced| Edit { forced: Some(forced), ..Edit::default() };
    let position = |place| Edit { position: Some(place), ..Edit::default() };
    match name {
        "pause" => edit(paused(true), "Paused"),
        "resume" => edit(paused(false), "Resumed"),
        // Who forces it wants it to run.
        "force" => edit(Edit { paused: Some(false), ..forced(true) }, "Runs without a turn in the queue"),
        "unforce" => edit(forced(false), "Waits for its turn again"),
        "recheck" => edit(Edit { recheck: true, ..Edit::default() }, "All data is checked again"),
        "top" => edit(position(Place::Top), "First in the queue"),
        "higher" => edit(position(Place::Up), "Sooner in the queue"),
        "lower" => edit(position(Place::Down), "Later in the queue"),
        "bottom" => edit(position(Place::Bottom), "Last in the queue"),
        "reannounce" => Ok((Action::Reannounce, "Announced, as far as the trackers allow")),
        other => Err(Fault::invalid(format!("{other}: there is no such action"))),
    }
}

async fn act(ctx: &Ctx, ids: Vec<Id>, name: &str) -> PageResult<Response> {
    let (action, said) = action(name)?;
    let count = ids.len();
    match action {
        Action::Edit(edit) => ctx.app.manager.edit(ids, *edit).await?,
        Action::Reannounce => {
            for id in ids {
                ctx.app.manager.reannounce(id).await?;
            }
        }
    }
    Ok(ctx.done(&match count {
        1 => said.to_owned(),
        count => format!("{said}: {count} torrents"),
    }))
}

/// One torrent.
pub async fn one(ctx: Ctx, Path(id): Path<i64>, fields: Fields) -> PageResult<Response> {
    act(&ctx, vec![Id(id)], fields.get("action")).await
}

/// Those that are selected.
pub async fn several(ctx: Ctx, fields: Fields) -> PageResult<Response> {
    let ids = chosen(&ctx, fields.iter());
    if ids.is_empty() {
        return Err(Fault::invalid("no torrent is selected"));
    }
    act(&ctx, ids, fields.get("action")).await
}

/// The torrents that are named, each once, as far as they are here: boxes that are checked, and all others in one field.
fn chosen<'a>(ctx: &Ctx, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Id> {
    let named =
        pairs.filter(|(name, _)| matches!(*name, "id" | "ids")).flat_map(|(_, value)| value.split(','));
    let ids: BTreeSet<Id> = named.filter_map(|id| id.trim().parse().ok()).collect();
    let table = ctx.app.table.read();
    ids.into_iter().filter(|id| table.get(*id).is_some()).collect()
}

/// The question before a removal.
#[derive(Template)]
#[template(path = "remove.html")]
struct RemovePage {
    frame: Frame,
    ids: String,
    names: Vec<String>,
    count: usize,
    more: usize,
    has_data: bool,
    size: String,
}

fn question(ctx: &Ctx, ids: &[Id]) -> PageResult<Response> {
    if ids.is_empty() {
        return Err(Fault::invalid("no torrent is selected"));
    }
    let (mut names, mut bytes, mut has_data) = (Vec::new(), 0_u64, false);
    {
        let table = ctx.app.table.read();
        for row in ids.iter().filter_map(|id| table.get(*id)) {
            if names.len() < NAMES_MAX {
                names.push(format::name(&row.summary.name));
            }
            bytes = bytes.saturating_add(row.summary.bytes_verified);
            has_data |= !row.summary.seed;
        }
    }
    let ids_text = ids.iter().map(Id::to_string).collect::<Vec<_>>().join(",");
    html(&RemovePage {
        frame: ctx.frame("remove", ""),
        ids: ids_text,
        more: ids.len() - names.len(),
        names,
        count: ids.len(),
        has_data,
        size: format::size(bytes),
    })
}

/// Asks before a removal, for torrents in the query.
pub async fn ask_removal(ctx: Ctx, RawQuery(query): RawQuery) -> PageResult<Response> {
    let query = query.unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let ids = chosen(&ctx, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    question(&ctx, &ids)
}

/// Removes torrents once it is said what becomes of their data; asks before.
pub async fn remove(ctx: Ctx, fields: Fields) -> PageResult<Response> {
    let ids = chosen(&ctx, fields.iter());
    let data = match fields.get("data") {
        "keep" => Data::Keep,
        "delete" => Data::Delete,
        _ => return question(&ctx, &ids),
    };
    let first = ids.first().copied();
    let count = ids.len();
    let manager = ctx.app.manager.clone();
    // It goes on when whoever asked goes away.
    let removals = tokio::spawn(async move {
        let removals = iter(ids).map(|id| {
            let manager = manager.clone();
            async move { manager.remove(id, data).await }
        });
        let ended: Vec<_> = removals.buffer_unordered(REMOVALS_AT_ONCE).collect().await;
        ended.into_iter().filter_map(Result::err).collect::<Vec<_>>()
    });
    let failed = removals.await.unwrap_or_default();
    if let Some(refusal) = failed.first() {
        let message = match failed.len() {
            1 => refusal.to_string(),
            more => format!("{refusal} (and {} more)", more - 1),
        };
        return Err(Fault::invalid(message));
    }
    // The page of a torrent goes with it.
    let is_its_page = |back: &String| first.is_some_and(|id| NameOf(id).is_in(back));
    let to_list = count == 1 && ctx.back.as_ref().is_some_and(is_its_page) || !ctx.is_htmx;
    let said = if count == 1 { "Removed".to_owned() } else { format!("Removed {count} torrents") };
    Ok(ctx.done_at(&said, to_list.then_some("/")))
}
