//! What a torrent does, in the words of this dialect.

use crate::table::{State, Summary};

/// Whether everything wanted is there.
pub fn is_complete(summary: &Summary) -> bool {
    let has_all = summary.bytes_total > 0 && summary.bytes_verified >= summary.bytes_total;
    summary.seed || summary.completed_at.is_some() || has_all
}

/// What it does.
pub fn of(summary: &Summary) -> &'static str {
    let is_complete = is_complete(summary);
    let either = |up, down| if is_complete { up } else { down };
    match summary.state {
        State::Failed => "error",
        State::Moving => "moving",
        State::Paused => either("stoppedUP", "stoppedDL"),
        State::Queued => either("queuedUP", "queuedDL"),
        State::Checking if summary.pieces_to_check.is_none() => "checkingResumeData",
        State::Checking => either("checkingUP", "checkingDL"),
        State::Metadata if summary.forced => "forcedMetaDL",
        State::Metadata => "metaDL",
        State::Downloading if summary.forced => "forcedDL",
        State::Downloading if summary.rate_down > 0 => "downloading",
        State::Downloading => "stalledDL",
        State::Seeding if summary.forced => "forcedUP",
        State::Seeding if summary.rate_up > 0 => "uploading",
        State::Seeding => "stalledUP",
        _ => "unknown",
    }
}

/// Whether a torrent is among those of a filter; an unknown filter has all.
pub fn passes(filter: &str, summary: &Summary) -> bool {
    let is_complete = is_complete(summary);
    let is_stopped = summary.state == State::Paused;
    let moves = summary.rate_down > 0 || summary.rate_up > 0;
    match filter {
        "downloading" => !is_complete && summary.state != State::Failed,
        "seeding" => is_complete && !is_stopped && summary.state != State::Failed,
        "completed" => is_complete,
        "stopped" | "paused" => is_stopped,
        "running" | "resumed" => !is_stopped,
        "active" => moves,
        "inactive" => !moves,
        "stalled" => matches!(of(summary), "stalledUP" | "stalledDL"),
        "stalled_uploading" => of(summary) == "stalledUP",
        "stalled_downloading" => of(summary) == "stalledDL",
        "checking" => summary.state == State::Checking,
        "moving" => summary.state == State::Moving,
        "errored" => summary.state == State::Failed,
        _ => true,
    }
}
