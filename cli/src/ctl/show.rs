//! What a daemon answers, as tables for people.

use crate::context::Context;
use crate::exit::printable;
use crate::units;
use serde_json::Value;
use std::time::Duration;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

/// Prints a table: its columns are as wide as they have to be, the last one as it is. Those in `right` end at the same column.
pub fn table(cx: &mut Context, head: &[&str], right: &[usize], rows: &[Vec<String>]) {
    let head = head.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let paint = cx.console.paint();
    for (nth, row) in std::iter::once(&head).chain(rows).enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            let gap = " ".repeat(width - cell.chars().count());
            match right.contains(&column) {
                true => format!("{gap}{cell}"),
                false if column + 1 == row.len() => cell.clone(),
                false => format!("{cell}{gap}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        cx.console.result(&if nth == 0 { paint.strong(line) } else { line.to_owned() });
    }
}

fn rate(value: &Value, field: &str) -> String {
    match number(value, field) {
        0 => "-".to_owned(),
        rate => units::rate(rate),
    }
}

fn percent(torrent: &Value) -> String {
    match number(torrent, "bytes_total") {
        0 => "-".to_owned(),
        // Never 100 before all is there.
        total => format!("{} %", (number(torrent, "bytes_verified") as f64 / total as f64 * 100.0) as u64),
    }
}

/// How long it takes at the present rate.
fn eta(torrent: &Value) -> String {
    let left = number(torrent, "bytes_total").saturating_sub(number(torrent, "bytes_verified"));
    match number(torrent, "rate_down") {
        0 => "-".to_owned(),
        _ if left == 0 => "-".to_owned(),
        rate => units::duration(Duration::from_secs(left / rate)),
    }
}

pub fn torrents(cx: &mut Context, torrents: &[Value]) {
    if torrents.is_empty() {
        return cx.console.note("there are no torrents");
    }
    let row = |torrent: &Value| {
        vec![
            number(torrent, "id").to_string(),
            text(torrent, "state").to_owned(),
            percent(torrent),
            units::size(number(torrent, "bytes_total")),
            rate(torrent, "rate_down"),
            rate(torrent, "rate_up"),
            eta(torrent),
            format!("{:.2}", torrent["ratio"].as_f64().unwrap_or_default()),
            printable(text(torrent, "name")),
        ]
    };
    let rows: Vec<_> = torrents.iter().map(row).collect();
    let head = ["ID", "STATE", "DONE", "SIZE", "DOWN", "UP", "ETA", "RATIO", "NAME"];
    table(cx, &head, &[0, 2, 3, 4, 5, 6, 7], &rows);
}

pub fn torrent(cx: &mut Context, torrent: &Value) {
    let size = |field: &str| units::size(number(torrent, field));
    let given = |field: &str| torrent[field].as_str().map(printable);
    let limit = |field: &str| torrent[field].as_u64().map(units::rate);
    let lines = [
        ("name", given("name")),
        ("number", Some(number(torrent, "id").to_string())),
        ("info-hash", given("info_hash_v1")),
        ("info-hash v2", given("info_hash_v2")),
        ("folder", given("dir")),
        ("state", given("state")),
        ("waiting", given("waiting")),
        ("error", given("error")),
        ("stopped by", given("stopped_by")),
        (
            "complete",
            Some(format!("{} of {}, {}", size("bytes_verified"), size("bytes_total"), percent(torrent))),
        ),
        ("pieces", Some(format!("{} of {}", number(torrent, "pieces_have"), number(torrent, "pieces")))),
        ("received", Some(format!("{}, now {}", size("bytes_down"), rate(torrent, "rate_down")))),
        ("sent", Some(format!("{}, now {}", size("bytes_up"), rate(torrent, "rate_up")))),
        ("ratio", torrent["ratio"].as_f64().map(|ratio| format!("{ratio:.2}"))),
        ("peers", Some(format!("{}, {} of them seeds", number(torrent, "peers"), number(torrent, "seeds")))),
        ("upload limit", limit("upload_limit")),
        ("download limit", limit("download_limit")),
        ("category", given("category")),
        (
            "tags",
            torrent["tags"].as_array().filter(|tags| !tags.is_empty()).map(|tags| {
                let tags = tags.iter().filter_map(Value::as_str).map(printable);
                tags.collect::<Vec<_>>().join(", ")
            }),
        ),
        ("comment", given("comment")),
        ("magnet", given("magnet")),
    ];
    let paint = cx.console.paint();
    for (name, value) in lines {
        if let Some(value) = value {
            cx.console.result(&format!("{}{value}", paint.dim(&format!("{name:<16}"))));
        }
    }
}

pub fn files(cx: &mut Context, files: &[Value]) {
    let row = |file: &Value| {
        let length = number(file, "length");
        let done = file["bytes_verified"].as_u64().map(|bytes| match length {
            0 => "100 %".to_owned(),
            length => format!("{} %", (bytes as f64 / length as f64 * 100.0) as u64),
        });
        let priority = match number(file, "priority") {
            0 => "skip".to_owned(),
            4 => "want".to_owned(),
            7 => "first".to_owned(),
            other => other.to_string(),
        };
        let index = number(file, "index").to_string();
        vec![
            index,
            priority,
            done.unwrap_or_else(|| "-".to_owned()),
            units::size(length),
            printable(text(file, "path")),
        ]
    };
    let rows: Vec<_> = files.iter().map(row).collect();
    table(cx, &["FILE", "WANTED", "DONE", "SIZE", "PATH"], &[0, 2, 3], &rows);
}

pub fn peers(cx: &mut Context, peers: &[Value]) {
    if peers.is_empty() {
        return cx.console.note("no peer is connected");
    }
    let row = |peer: &Value| {
        let flags = [
            ("am_interested", 'i'),
            ("peer_choking", 'c'),
            ("peer_interested", 'I'),
            ("am_choking", 'C'),
            ("inbound", '<'),
            ("encrypted", 'e'),
            ("snubbed", 's'),
        ];
        let is_set = |field: &str| peer[field].as_bool() == Some(true);
        vec![
            text(peer, "address").to_owned(),
            text(peer, "transport").to_owned(),
            flags.iter().filter(|(field, _)| is_set(field)).map(|(_, letter)| letter).collect(),
            number(peer, "pieces_have").to_string(),
            rate(peer, "rate_down"),
            rate(peer, "rate_up"),
            printable(text(peer, "client")),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    table(cx, &["PEER", "OVER", "FLAGS", "PIECES", "DOWN", "UP", "CLIENT"], &[3, 4, 5], &rows);
}

pub fn trackers(cx: &mut Context, trackers: &[Value]) {
    let row = |tracker: &Value| {
        let count = |field: &str| tracker[field].as_u64().map_or("-".to_owned(), |count| count.to_string());
        let next = tracker["next_announce"].as_f64().map(Duration::from_secs_f64);
        vec![
            count("seeds"),
            count("leechers"),
            next.map_or("-".to_owned(), units::duration),
            printable(text(tracker, "url")),
            printable(text(tracker, "status")),
        ]
    };
    let rows: Vec<_> = trackers.iter().map(row).collect();
    table(cx, &["SEEDS", "LEECHERS", "NEXT", "URL", "STATUS"], &[0, 1, 2], &rows);
}

pub fn web_seeds(cx: &mut Context, seeds: &[Value]) {
    let row = |seed: &Value| {
        let received = units::size(number(seed, "bytes_down"));
        vec![received, rate(seed, "rate_down"), printable(text(seed, "url")), printable(text(seed, "status"))]
    };
    let rows: Vec<_> = seeds.iter().map(row).collect();
    table(cx, &["RECEIVED", "DOWN", "URL", "STATUS"], &[0, 1], &rows);
}

pub fn session(cx: &mut Context, session: &Value) {
    let list = |field: &str| {
        let items = session[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.collect::<Vec<_>>().join(", ")
    };
    let limit = |field: &str| session[field].as_u64().map_or("none".to_owned(), units::rate);
    let states = session["torrents"].as_object().into_iter().flatten();
    let states =
        states.filter(|(_, count)| count.as_u64() > Some(0)).map(|(state, count)| format!("{count} {state}"));
    let lines = [
        ("version", text(session, "version").to_owned()),
        ("listening", list("listening")),
        ("folder", printable(text(session, "dir"))),
        ("torrents", states.collect::<Vec<_>>().join(", ")),
        ("down", format!("{}, limit {}", rate(session, "rate_down"), limit("download_limit"))),
        ("up", format!("{}, limit {}", rate(session, "rate_up"), limit("upload_limit"))),
    ];
    let paint = cx.console.paint();
    for (name, value) in lines {
        cx.console.result(&format!("{}{value}", paint.dim(&format!("{name:<16}"))));
    }
}

/// An event as a line, if people care about it.
pub fn event(event: &Value) -> Option<String> {
    let about = event["id"].as_u64().map_or(String::new(), |id| format!("{id}: "));
    let what = match text(event, "event") {
        "torrent" => {
            let torrent = &event["torrent"];
            let rates = format!("down {}, up {}", rate(torrent, "rate_down"), rate(torrent, "rate_up"));
            format!("{}, {}, {rates}, {}", text(torrent, "state"), percent(torrent), text(torrent, "name"))
        }
        "removed" => "removed".to_owned(),
        "metadata" => "its metadata is here".to_owned(),
        "checked" => {
            format!("{} of {} pieces are here", number(event, "pieces_have"), number(event, "pieces"))
        }
        "complete" => "complete".to_owned(),
        "goal_reached" => format!("stopped: its goal is reached ({})", text(event, "goal")),
        "program_ended" => format!("its program has ended: {}", text(event, "status")),
        "failed" | "warning" => format!("{}: {}", text(event, "event"), text(event, "message")),
        "disk_stalled" => format!("the disk takes nothing: {}", text(event, "reason")),
        "disk_resumed" => "the disk takes data again".to_owned(),
        "peer_banned" => format!("{}: banned: {}", text(event, "address"), text(event, "reason")),
        "missed" => format!("{} events are lost", number(event, "count")),
        _ => return None,
    };
    Some(printable(&format!("{about}{what}")))
}

/// How many pieces a line has.
const PIECES_IN_LINE: usize = 64;

/// A torrent's pieces, a character each: `#` is there, `+` is partly there, `.` is not.
pub fn pieces(cx: &mut Context, pieces: &Value) {
    let letter = |state: char| match state {
        '2' => '#',
        '1' => '+',
        _ => '.',
    };
    let letters: Vec<char> = text(pieces, "states").chars().map(letter).collect();
    for line in letters.chunks(PIECES_IN_LINE) {
        cx.console.result(&line.iter().collect::<String>());
    }
}
