//! The list: the rows that are seen, and what has changed of them.

use super::query::{Group, ListQuery, Sort, left};
use super::{Ctx, Frame, PageResult, format, html};
use crate::table::{Shared, State, Summary};
use crate::torrents::record::StoppedBy;
use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use url::form_urlencoded;

/// How many categories and tags are offered beside the list.
const LABELS_MAX: usize = 200;

/// A row, as it is shown.
#[derive(Debug)]
pub struct RowView {
    pub id: i64,
    /// Its place in the list, from 1.
    pub index: usize,
    pub name: String,
    pub state: &'static str,
    pub label: &'static str,
    /// Why nothing moves, or how it goes.
    pub why: String,
    pub has_error: bool,
    pub thousandths: u32,
    pub percent: String,
    pub size: String,
    pub down: String,
    pub up: String,
    pub ratio: String,
    pub left: String,
    pub added: String,
    pub added_at: String,
    pub is_paused: bool,
    pub labels: Vec<String>,
}

impl RowView {
    pub fn new(summary: &Summary, index: usize, now: i64) -> RowView {
        let labels = summary.category.iter().chain(&summary.tags);
        RowView {
            id: summary.id.0,
            index,
            name: format::name(&summary.name),
            state: summary.state.name(),
            label: label(summary),
            why: format::name(&why(summary)),
            has_error: summary.error.is_some(),
            thousandths: progress(summary),
            percent: percent(summary),
            size: if summary.bytes_total == 0 { String::new() } else { format::size(summary.bytes_total) },
            down: format::rate_if_any(summary.rate_down),
            up: format::rate_if_any(summary.rate_up),
            ratio: format!("{:.2}", summary.ratio),
            left: left(summary).map(format::span).unwrap_or_default(),
            added: format::ago(now, summary.added_at),
            added_at: format::datetime(summary.added_at),
            is_paused: summary.paused,
            labels: labels.take(4).map(|label| format::name(label)).collect(),
        }
    }
}

/// How far it is, or how far its check is.
pub fn progress(summary: &Summary) -> u32 {
    match (summary.pieces_checked, summary.pieces_to_check) {
        (Some(done), Some(of)) => format::thousandths(done.into(), of.into()),
        _ => format::thousandths(summary.bytes_verified, summary.bytes_total),
    }
}

/// The same in words.
pub fn percent(summary: &Summary) -> String {
    match (summary.pieces_checked, summary.pieces_to_check) {
        (Some(done), Some(of)) => format::percent(done.into(), of.into()),
        _ if summary.bytes_total == 0 => String::new(),
        _ => format::percent(summary.bytes_verified, summary.bytes_total),
    }
}

/// What a torrent does, for people.
pub fn label(summary: &Summary) -> &'static str {
    match summary.state {
        State::Metadata => "Fetching metadata",
        State::Checking => "Checking",
        State::Downloading => "Downloading",
        State::Seeding => "Seeding",
        State::Queued => "Queued",
        State::Paused => "Paused",
        State::Failed => "Failed",
        State::Moving => "Moving",
        State::Removing => "Removing",
    }
}

/// Why nothing moves; or who it moves with.
pub fn why(summary: &Summary) -> String {
    if let Some(error) = &summary.error {
        return error.clone();
    }
    let peers = match (summary.peers, summary.seeds) {
        (0, _) => String::new(),
        (1, _) => "1 peer".to_owned(),
        (peers, 0) => format!("{peers} peers"),
        (peers, 1) => format!("{peers} peers, 1 seed"),
        (peers, seeds) => format!("{peers} peers, {seeds} seeds"),
    };
    match (summary.state, summary.stopped_by) {
        (State::Paused, Some(StoppedBy::Ratio)) => "its ratio goal is reached".to_owned(),
        (State::Paused, Some(StoppedBy::SeedTime)) => "it has seeded as long as it should".to_owned(),
        (State::Queued, _) => "waits for its turn".to_owned(),
        (State::Checking, _) => match (summary.pieces_checked, summary.pieces_to_check) {
            (Some(done), Some(of)) => format!("{done} of {of} pieces"),
            _ => summary.waiting.clone().unwrap_or_else(|| "waits for its turn".to_owned()),
        },
        _ => summary.waiting.clone().unwrap_or(peers),
    }
}

/// A link beside the list, with how many torrents it leads to.
#[derive(Debug)]
pub struct Side {
    pub label: String,
    pub query: String,
    pub count: usize,
    pub is_here: bool,
}

/// What is left and right of the list.
#[derive(Debug, Default)]
pub struct Sides {
    pub groups: Vec<Side>,
    pub categories: Vec<Side>,
    pub tags: Vec<Side>,
}

/// A heading that sorts.
#[derive(Debug)]
pub struct Heading {
    pub name: &'static str,
    pub label: &'static str,
    pub query: String,
    /// `ascending`, `descending` or `none`.
    pub order: &'static str,
}

/// Payload of all torrents together.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub down: String,
    pub up: String,
}

impl Sums {
    pub fn of(table: &Shared) -> Sums {
        let table = table.read();
        let rates = table.iter().map(|row| (row.summary.rate_down, row.summary.rate_up));
        Sums::sum(rates)
    }

    fn sum(rates: impl Iterator<Item = (u64, u64)>) -> Sums {
        let (down, up) = rates.fold((0_u64, 0_u64), |(down, up), (more_down, more_up)| {
            (down.saturating_add(more_down), up.saturating_add(more_up))
        });
        Sums { down: format::rate(down), up: format::rate(up) }
    }
}

/// What is shown of the list at one moment.
#[derive(Debug, Default)]
pub struct Window {
    pub base: String,
    pub rows: Vec<RowView>,
    pub from: usize,
    /// Rows after the last one.
    pub after: usize,
    pub total: usize,
    /// Torrents, whether they are looked at or not.
    pub all: usize,
    pub revision: u64,
    /// Which rows these are, and what is beside the list: who has seen the same needs less.
    pub key: String,
    pub sides_key: String,
    pub sides: Sides,
    pub sums: Sums,
    /// Whether rows take the place of their former selves.
    pub is_part: bool,
    /// Only these rows have changed.
    pub changed: Vec<usize>,
    pub has_all_rows: bool,
    pub has_sides: bool,
}

impl Window {
    /// Looks at the table.
    pub fn of(table: &Shared, query: &ListQuery, base: &str, now: i64, since: u64) -> Window {
        let search = query.search.to_lowercase();
        let table = table.read();
        let mut counts = Counts::default();
        let mut found: Vec<Arc<Summary>> = Vec::new();
        for row in table.iter() {
            counts.count(&row.summary);
            if query.wants(&row.summary, &search) {
                found.push(Arc::clone(&row.summary));
            }
        }
        query.sort(&mut found);
        let total = found.len();
        // The list may have become shorter than where somebody looks.
        let from = query.from.min(total.saturating_sub(query.count));
        let shown = found.get(from..total.min(from + query.count)).unwrap_or_default();
        let rows = shown.iter().enumerate().map(|(nth, one)| RowView::new(one, from + nth + 1, now));
        let is_changed = |one: &Summary| table.revision_of(one.id).is_some_and(|revision| revision > since);
        let changed = shown.iter().enumerate().filter(|(_, one)| is_changed(one)).map(|(nth, _)| nth);
        let key = hash(&(from, total, shown.iter().map(|one| one.id).collect::<Vec<_>>()));
        let sides = counts.sides(query);
        Window {
            base: base.to_owned(),
            from,
            after: total - from - shown.len(),
            total,
            all: counts.groups[0],
            revision: table.revision(),
            key,
            sides_key: sides.key(),
            sums: Sums::sum(table.iter().map(|row| (row.summary.rate_down, row.summary.rate_up))),
            changed: changed.collect(),
            rows: rows.collect(),
            sides,
            ..Window::default()
        }
    }

    fn changed_rows(&self) -> impl Iterator<Item = &RowView> {
        self.changed.iter().filter_map(|nth| self.rows.get(*nth))
    }
}

fn hash(value: &impl std::hash::Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[derive(Default)]
struct Counts<'a> {
    groups: [usize; Group::ALL.len()],
    categories: BTreeMap<&'a str, usize>,
    tags: BTreeMap<&'a str, usize>,
}

impl<'a> Counts<'a> {
    fn count(&mut self, summary: &'a Summary) {
        for (group, count) in Group::ALL.iter().zip(&mut self.groups) {
            *count += usize::from(group.has(summary));
        }
        if let Some(category) = &summary.category {
            *self.categories.entry(category).or_default() += 1;
        }
        for tag in &summary.tags {
            *self.tags.entry(tag).or_default() += 1;
        }
    }

    fn sides(&self, query: &ListQuery) -> Sides {
        let groups = Group::ALL.iter().zip(self.groups).map(|(&group, count)| Side {
            label: group.label().to_owned(),
            query: ListQuery { group, ..query.clone() }.encode(),
            count,
            is_here: group == query.group,
        });
        // A second click takes the choice back.
        let side = |(label, count): (&&str, &usize), is_here: bool, other: ListQuery| Side {
            label: format::name(label),
            query: other.encode(),
            count: *count,
            is_here,
        };
        let categories = self.categories.iter().take(LABELS_MAX).map(|entry| {
            let is_here = query.category.as_deref() == Some(*entry.0);
            let category = (!is_here).then(|| (*entry.0).to_owned());
            side(entry, is_here, ListQuery { category, ..query.clone() })
        });
        let tags = self.tags.iter().take(LABELS_MAX).map(|entry| {
            let is_here = query.tag.as_deref() == Some(*entry.0);
            let tag = (!is_here).then(|| (*entry.0).to_owned());
            side(entry, is_here, ListQuery { tag, ..query.clone() })
        });
        Sides { groups: groups.collect(), categories: categories.collect(), tags: tags.collect() }
    }
}

impl Sides {
    fn key(&self) -> String {
        let all = self.groups.iter().chain(&self.categories).chain(&self.tags);
        hash(&all.map(|side| (&side.label, &side.query, side.count, side.is_here)).collect::<Vec<_>>())
    }
}

fn headings(query: &ListQuery) -> Vec<Heading> {
    let heading = |sort: Sort| {
        let is_here = sort == query.sort;
        let other = ListQuery { sort, is_reversed: is_here && !query.is_reversed, ..query.clone() };
        let order = match (is_here, query.descends()) {
            (false, _) => "none",
            (true, false) => "ascending",
            (true, true) => "descending",
        };
        Heading { name: sort.name(), label: sort.label(), query: other.encode(), order }
    };
    Sort::ALL.into_iter().map(heading).collect()
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    window: Window,
    query: ListQuery,
    encoded: String,
    headings: Vec<Heading>,
}

/// What has changed: elements that take the place of their former selves.
#[derive(Template)]
#[template(path = "rows.html")]
struct RowsPart {
    window: Window,
}

/// The list.
pub async fn show(ctx: Ctx, RawQuery(query): RawQuery) -> PageResult<Response> {
    let query = ListQuery::parse(&query.unwrap_or_default());
    let window = Window::of(&ctx.app.table, &query, &ctx.base, crate::manager::now(), 0);
    let frame = Frame { sums: window.sums.clone(), ..ctx.frame("list", "/live") };
    html(&ListPage { frame, window, headings: headings(&query), encoded: query.encode(), query })
}

/// What somebody who looks at the list has not seen yet.
pub async fn rows(ctx: Ctx, RawQuery(query): RawQuery) -> PageResult<Response> {
    let text = query.unwrap_or_default();
    let given = |name: &str| {
        let mut pairs = form_urlencoded::parse(text.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let since = given("since").parse().unwrap_or(0);
    let query = ListQuery::parse(&text);
    let mut window = Window::of(&ctx.app.table, &query, &ctx.base, crate::manager::now(), since);
    window.is_part = true;
    window.has_all_rows = window.key != given("key");
    window.has_sides = window.sides_key != given("sides");
    html(&RowsPart { window })
}

/// The numbers of all torrents that are looked at, separated by commas: for who selects them all.
pub async fn ids(ctx: Ctx, RawQuery(query): RawQuery) -> String {
    let query = ListQuery::parse(&query.unwrap_or_default());
    let search = query.search.to_lowercase();
    let table = ctx.app.table.read();
    let found = table.iter().filter(|row| query.wants(&row.summary, &search));
    found.map(|row| row.summary.id.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
