//! Categories and tags.

use super::info::text;
use super::{Answer, Ask, Fault, ids, several};
use crate::table::Row;
use crate::torrents::{CategoryEdit, Edit, Id, Labels, LabelsEdit, Refusal};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Whether a request is about these.
pub fn has(name: &str) -> bool {
    name.ends_with("Category") || name.ends_with("ategories") || name.ends_with("ags")
}

/// All categories.
pub fn categories(labels: &Labels) -> Map<String, Value> {
    let entry = |(name, category): (&String, &crate::torrents::Category)| {
        let dir = category.dir.as_deref().map(text).unwrap_or_default();
        (name.clone(), json!({"name": name, "savePath": dir}))
    };
    labels.categories.iter().map(entry).collect()
}

/// Answers a request.
pub async fn answer(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    let labels = ask.app.labels.borrow().clone();
    let tags = || ask.form.list("tags", ',').map(str::to_owned).collect::<Vec<String>>();
    let change = async |edit: LabelsEdit| {
        ask.app.manager.set_labels(edit).await?;
        Ok(Answer::Done)
    };
    match name {
        "categories" => Answer::json(&categories(&labels)),
        "tags" => Answer::json(&labels.tags),
        "setCategory" => set_category(ask, &labels).await,
        "createCategory" | "editCategory" => {
            let category = ask.form.need("category")?.to_owned();
            if !is_name(&category) {
                return Err(Fault::conflict("Incorrect category name"));
            }
            let edit = CategoryEdit { dir: folder(ask).await?, ..CategoryEdit::default() };
            match name {
                "createCategory" => change(LabelsEdit::CreateCategory(category, edit)).await,
                _ => change(LabelsEdit::EditCategory(category, edit)).await,
            }
        }
        "removeCategories" => {
            let names = ask.form.list("categories", '\n').map(str::to_owned).collect();
            change(LabelsEdit::RemoveCategories(names)).await
        }
        "createTags" => change(LabelsEdit::CreateTags(tags())).await,
        "deleteTags" => change(LabelsEdit::RemoveTags(tags())).await,
        "addTags" => edit_tags(ask, |has| has.extend(tags())).await,
        "setTags" => edit_tags(ask, |has| *has = tags().into_iter().collect()).await,
        "removeTags" => {
            let gone: BTreeSet<String> = tags().into_iter().collect();
            // None named means all.
            edit_tags(ask, |has| has.retain(|tag| !gone.is_empty() && !gone.contains(tag))).await
        }
        _ => Err(Fault::not_found()),
    }
}

/// A category may have parts with `/` between them, none of them empty.
fn is_name(name: &str) -> bool {
    !name.contains('\\') && name.split('/').all(|part| !part.is_empty())
}

/// The folder of a category; an empty one is the daemon's.
async fn folder(ask: &Ask) -> Result<Option<Option<PathBuf>>, Fault> {
    let Some(given) = ask.form.get("savePath") else { return Ok(None) };
    if given.is_empty() {
        return Ok(Some(None));
    }
    let rules = ask.app.rules.borrow().clone();
    Ok(Some(Some(crate::adding::folder(PathBuf::from(given), rules).await?)))
}

async fn set_category(ask: &Ask, labels: &Labels) -> Result<Answer, Fault> {
    let name = ask.form.get("category").ok_or_else(|| Fault::missing("category"))?;
    let category = (!name.is_empty()).then(|| name.to_owned());
    if category.as_ref().is_some_and(|name| !labels.categories.contains_key(name)) {
        return Err(Fault::conflict("Incorrect category name"));
    }
    let rows = several(ask, "hashes")?;
    ask.app.manager.edit(ids(&rows), Edit { category: Some(category), ..Edit::default() }).await?;
    Ok(Answer::Done)
}

/// Changes tags of torrents: those that have the same together.
async fn edit_tags(ask: &Ask, change: impl Fn(&mut BTreeSet<String>)) -> Result<Answer, Fault> {
    // Between the look at the tags and the change nobody else may change them.
    let _alone = ask.app.qbittorrent.edits.lock().await;
    for (before, ids) in by(&several(ask, "hashes")?, |row| row.summary.tags.clone()) {
        let mut tags: BTreeSet<String> = before.iter().cloned().collect();
        change(&mut tags);
        let tags: Vec<String> = tags.into_iter().collect();
        if tags != before {
            ask.app.manager.edit(ids, Edit { tags: Some(tags), ..Edit::default() }).await?;
        }
    }
    Ok(Answer::Done)
}

/// Torrents by what they have.
pub fn by<K: Ord>(rows: &[Row], of: impl Fn(&Row) -> K) -> BTreeMap<K, Vec<Id>> {
    let mut groups: BTreeMap<K, Vec<Id>> = BTreeMap::new();
    for row in rows {
        groups.entry(of(row)).or_default().push(row.summary.id);
    }
    groups
}

impl Fault {
    /// What the program itself answers where a folder may not be used.
    pub fn of_folder(refusal: Refusal, is_there: bool) -> Fault {
        match refusal {
            Refusal::Folder(_) if is_there => {
                Fault(axum::http::StatusCode::FORBIDDEN, "Cannot write to directory".to_owned())
            }
            Refusal::Folder(_) => Fault::conflict("Unable to create save path directory"),
            other => other.into(),
        }
    }
}
