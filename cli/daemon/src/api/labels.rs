//! `/api/v1/categories`, `/api/v1/tags` and `/api/v1/tracker-limits`: what several torrents have in common.

use super::error::{self, ErrorBody};
use super::torrents::{PathOf, Result};
use super::{App, AppState};
use crate::folders;
use crate::torrents::{CategoryEdit, LabelsEdit, Refusal, SharedLimits};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use utoipa::ToSchema;

/// A category.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CategoryShown {
    /// Its name.
    name: String,
    /// The folder of torrents that are added to it without one; null: the daemon's.
    #[schema(value_type = Option<String>)]
    dir: Option<PathBuf>,
    /// The limit of payload sent, its torrents together, in bytes/s.
    upload_limit: Option<u64>,
    /// The limit of payload received, its torrents together, in bytes/s.
    download_limit: Option<u64>,
    /// How many torrents it has.
    torrents: usize,
}

/// What is to be of a category. What is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CategoryBody {
    /// The folder of torrents that are added to it without one: absolute, or below the one of the configuration; null: the daemon's.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    dir: Option<Option<PathBuf>>,
    /// The limit of payload sent, its torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    upload_limit: Option<Option<u64>>,
    /// The limit of payload received, its torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    download_limit: Option<Option<u64>>,
}

/// A category to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCategory {
    /// Its name.
    name: String,
    /// The folder of torrents that are added to it without one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    dir: Option<PathBuf>,
    /// The limit of payload sent, its torrents together, in bytes/s.
    #[serde(default)]
    upload_limit: Option<u64>,
    /// The limit of payload received, its torrents together, in bytes/s.
    #[serde(default)]
    download_limit: Option<u64>,
}

fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl CategoryBody {
    /// With its folder looked at, which may block.
    async fn resolved(self, app: &App) -> Result<CategoryEdit> {
        let rules = app.rules.borrow().clone();
        let CategoryBody { dir, upload_limit, download_limit } = self;
        let dir = match dir {
            Some(Some(dir)) => {
                let resolve = move || folders::resolve(Some(&dir), &rules.dir, &rules.allow_dirs);
                let resolved = tokio::task::spawn_blocking(resolve).await;
                let defect = |_| Refusal::Engine("a defect: it ended early".to_owned());
                Some(Some(resolved.map_err(defect)??))
            }
            other => other,
        };
        Ok(CategoryEdit { dir, upload_limit, download_limit })
    }
}

fn name_of(path: PathOf) -> Result<String> {
    let Path(name) = path?;
    Ok(name)
}

async fn change(app: &App, edit: LabelsEdit) -> Result<StatusCode> {
    app.manager.set_labels(edit).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists categories
#[utoipa::path(get, path = "/api/v1/categories", responses((status = 200, body = Vec<CategoryShown>)))]
pub async fn categories(State(app): AppState) -> Json<Vec<CategoryShown>> {
    let labels = app.labels.borrow().clone();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in app.table.read().iter() {
        if let Some(category) = &row.summary.category {
            *counts.entry(category.clone()).or_default() += 1;
        }
    }
    let shown = labels.categories.iter().map(|(name, category)| CategoryShown {
        name: name.clone(),
        dir: category.dir.clone(),
        upload_limit: category.limits.upload_limit,
        download_limit: category.limits.download_limit,
        torrents: counts.get(name).copied().unwrap_or(0),
    });
    Json(shown.collect())
}

/// Makes a category
#[utoipa::path(post, path = "/api/v1/categories", request_body = NewCategory,
    responses((status = 201), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub async fn create_category(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let NewCategory { name, dir, upload_limit, download_limit } = error::json(&headers, body).await?;
    let body = CategoryBody {
        dir: dir.map(Some),
        upload_limit: upload_limit.map(Some),
        download_limit: download_limit.map(Some),
    };
    let edit = body.resolved(&app).await?;
    change(&app, LabelsEdit::CreateCategory(name, edit)).await?;
    Ok(StatusCode::CREATED)
}

/// Changes a category. Torrents that it has stay where they are
#[utoipa::path(patch, path = "/api/v1/categories/{category}", params(("category" = String, Path)), request_body = CategoryBody,
    responses((status = 204), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn edit_category(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let name = name_of(path)?;
    let body: CategoryBody = error::json(&headers, body).await?;
    let edit = body.resolved(&app).await?;
    change(&app, LabelsEdit::EditCategory(name, edit)).await
}

/// Takes a category away, from its torrents too
#[utoipa::path(delete, path = "/api/v1/categories/{category}", params(("category" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub async fn remove_category(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    let name = name_of(path)?;
    if !app.labels.borrow().categories.contains_key(&name) {
        return Err(Refusal::NoSuchCategory(name).into());
    }
    change(&app, LabelsEdit::RemoveCategories(vec![name])).await
}

/// Lists tags
#[utoipa::path(get, path = "/api/v1/tags", responses((status = 200, body = Vec<String>)))]
pub async fn tags(State(app): AppState) -> Json<BTreeSet<String>> {
    Json(app.labels.borrow().tags.clone())
}

/// Tags to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTags {
    /// Their names.
    tags: Vec<String>,
}

/// Makes tags, as far as they are not there
#[utoipa::path(post, path = "/api/v1/tags", request_body = NewTags,
    responses((status = 204), (status = 400, body = ErrorBody)))]
pub async fn create_tags(State(app): AppState, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let NewTags { tags } = error::json(&headers, body).await?;
    change(&app, LabelsEdit::CreateTags(tags)).await
}

/// Takes a tag away, from its torrents too
#[utoipa::path(delete, path = "/api/v1/tags/{tag}", params(("tag" = String, Path)), responses((status = 204)))]
pub async fn remove_tag(State(app): AppState, path: PathOf) -> Result<StatusCode> {
    let name = name_of(path)?;
    change(&app, LabelsEdit::RemoveTags(vec![name])).await
}

/// Lists limits by the host of a tracker
#[utoipa::path(get, path = "/api/v1/tracker-limits", responses((status = 200, body = BTreeMap<String, SharedLimits>)))]
pub async fn tracker_limits(State(app): AppState) -> Json<BTreeMap<String, SharedLimits>> {
    Json(app.labels.borrow().trackers.clone())
}

/// Limits all torrents together that a tracker has; without limits it is forgotten
#[utoipa::path(put, path = "/api/v1/tracker-limits/{host}", params(("host" = String, Path)), request_body = SharedLimits,
    responses((status = 204), (status = 400, body = ErrorBody)))]
pub async fn limit_tracker(
    State(app): AppState,
    path: PathOf,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let host = name_of(path)?;
    let limits = error::json(&headers, body).await?;
    change(&app, LabelsEdit::LimitTracker(host, limits)).await
}
