//! A torrent as readers see it.

use super::Live;
use crate::table::{Row, State, Summary};
use crate::torrents::book::Torrent;
use crate::torrents::{Goal, addresses};
use std::sync::Arc;

/// What readers see of a torrent.
pub(super) fn row(torrent: &Torrent, live: &Live, runs: bool) -> Row {
    let Torrent { record, metainfo, conflict } = torrent;
    let options = &record.options;
    let state = state(torrent, live, runs);
    let is_there = live.told.is_some() && runs;
    let goal = |is_default: bool| !is_default;
    let summary = Summary {
        id: record.id,
        info_hash: record.hashes.swarms().next().map(|hash| hash.to_string()),
        info_hash_v1: record.hashes.v1.map(|hash| hash.to_string()),
        info_hash_v2: record.hashes.v2.map(|hash| hash.to_string()),
        name: record.shown_name().to_owned(),
        own_name: record.name.clone(),
        path: record.root(),
        moving_to: record.moving.as_ref().map(|moving| moving.dir.clone()),
        dir: record.dir.clone(),
        state,
        waiting: live.stalled.clone().or_else(|| live.waiting.clone()).filter(|_| is_there),
        error: live
            .failure
            .clone()
            .or_else(|| conflict.as_ref().map(ToString::to_string))
            .or(live.trouble.clone()),
        paused: options.paused,
        stopped_by: record.stopped_by,
        forced: options.forced,
        seed: options.seed,
        sequential: options.sequential,
        first_last: options.first_last,
        position: options.position,
        bytes_total: record.progress.bytes_total,
        bytes_verified: record.progress.bytes_verified,
        pieces: record.progress.pieces,
        pieces_have: record.progress.pieces_have,
        pieces_checked: live.checking.filter(|_| state == State::Checking).map(|(done, _)| done),
        pieces_to_check: live.checking.filter(|_| state == State::Checking).map(|(_, of)| of),
        rate_down: if is_there { live.rates.0 } else { 0 },
        rate_up: if is_there { live.rates.1 } else { 0 },
        peers: if is_there { live.peers } else { 0 },
        seeds: if is_there { live.seeds } else { 0 },
        bytes_down: record.totals.bytes_down,
        bytes_up: record.totals.bytes_up,
        ratio: record.ratio(),
        seconds_active: record.totals.seconds_active,
        seconds_seeding: record.totals.seconds_seeding,
        running_since: record.running_since,
        active_at: live.active_at,
        added_at: record.added_at,
        completed_at: record.completed_at,
        upload_limit: options.upload_limit,
        download_limit: options.download_limit,
        ratio_limit: Some(options.ratio_limit).filter(|limit| goal(is_default(limit))),
        seed_time_limit: Some(options.seed_time_limit).filter(|limit| goal(is_default(limit))),
        category: options.category.clone(),
        tags: options.tags.clone(),
    };
    Row {
        summary: Arc::new(summary),
        metainfo: metainfo.clone(),
        link: record.link.clone(),
        handle: live.told.as_ref().map(|told| told.handle.clone()),
        priorities: options.priorities.as_deref().map(Arc::from),
        tiers: addresses::tiers(options, metainfo.as_deref(), record.link.as_deref()).into(),
        web_seeds: addresses::web_seeds(options, metainfo.as_deref(), record.link.as_deref()).into(),
        layout: Arc::new(record.layout.clone()),
        stream_token: record.stream_token.as_deref().map(Arc::from),
        is_stalled: is_there && live.stalled.is_some(),
    }
}

fn is_default<T>(goal: &Goal<T>) -> bool {
    matches!(goal, Goal::Default | Goal::Word(crate::torrents::goals::GoalWord::Default))
}

fn state(torrent: &Torrent, live: &Live, runs: bool) -> State {
    let record = &torrent.record;
    if record.removing.is_some() {
        State::Removing
    } else if record.moving.is_some() {
        State::Moving
    } else if live.is_checked {
        State::Checking
    } else if record.options.paused {
        State::Paused
    } else if live.failure.is_some() || torrent.conflict.is_some() {
        State::Failed
    } else if !runs {
        State::Queued
    } else {
        match live.state {
            swarm_engine::State::Metadata => State::Metadata,
            swarm_engine::State::Downloading => State::Downloading,
            swarm_engine::State::Seeding => State::Seeding,
            _ if record.link.is_some() => State::Metadata,
            _ => State::Checking,
        }
    }
}
