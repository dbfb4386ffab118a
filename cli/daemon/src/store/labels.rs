//! Categories, tags and limits of trackers as rows, and back.

use super::rows::{bytes_of, path_of, whole};
use crate::torrents::{Category, Labels, SharedLimits};
use rusqlite::{Connection, Row, params};

/// Writes all of them in place of those that are there.
pub fn put(connection: &Connection, labels: &Labels) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM categories; DELETE FROM tags; DELETE FROM tracker_limits;")?;
    let sql = "INSERT INTO categories (name, dir, upload_limit, download_limit) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = connection.prepare(sql)?;
    for (name, Category { dir, limits }) in &labels.categories {
        let SharedLimits { upload_limit, download_limit } = limits;
        let dir = dir.as_deref().map(bytes_of);
        statement.execute(params![name, dir, upload_limit.map(whole), download_limit.map(whole)])?;
    }
    let mut statement = connection.prepare("INSERT INTO tags (name) VALUES (?1)")?;
    for tag in &labels.tags {
        statement.execute([tag])?;
    }
    let sql = "INSERT INTO tracker_limits (host, upload_limit, download_limit) VALUES (?1, ?2, ?3)";
    let mut statement = connection.prepare(sql)?;
    for (host, SharedLimits { upload_limit, download_limit }) in &labels.trackers {
        statement.execute(params![host, upload_limit.map(whole), download_limit.map(whole)])?;
    }
    Ok(())
}

/// Reads all of them.
pub fn load(connection: &Connection) -> rusqlite::Result<Labels> {
    let mut categories = connection.prepare("SELECT * FROM categories")?;
    let categories = categories.query_map([], |row| {
        let dir = row.get::<_, Option<Vec<u8>>>("dir")?.map(path_of);
        Ok((row.get("name")?, Category { dir, limits: limits(row)? }))
    })?;
    let categories = categories.collect::<rusqlite::Result<_>>()?;
    let mut tags = connection.prepare("SELECT name FROM tags")?;
    let tags = tags.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut trackers = connection.prepare("SELECT * FROM tracker_limits")?;
    let trackers = trackers.query_map([], |row| Ok((row.get("host")?, limits(row)?)))?;
    Ok(Labels { categories, tags, trackers: trackers.collect::<rusqlite::Result<_>>()? })
}

fn limits(row: &Row<'_>) -> rusqlite::Result<SharedLimits> {
    let limit = |name: &str| row.get::<_, Option<i64>>(name).map(|limit| limit.map(i64::unsigned_abs));
    Ok(SharedLimits { upload_limit: limit("upload_limit")?, download_limit: limit("download_limit")? })
}
