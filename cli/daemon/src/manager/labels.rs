//! Categories, tags and limits of trackers: asked for, written, and shown to readers.

use super::Manager;
use super::commands::{Command, Handle};
use crate::torrents::{LabelsEdit, Refusal};
use std::sync::Arc;

impl Handle {
    /// Changes categories, tags or limits of trackers.
    ///
    /// # Errors
    /// Why not.
    pub async fn set_labels(&self, edit: LabelsEdit) -> Result<(), Refusal> {
        self.ask(|reply| Command::Labels(edit, reply)).await
    }
}

impl Manager {
    pub(super) async fn set_labels(&mut self, edit: LabelsEdit) -> Result<(), Refusal> {
        let change = self.book.plan_labels(edit)?;
        self.commit(change).await
    }

    /// Shows readers the labels, if they are others, and has the session keep to their limits.
    pub(super) fn publish_labels(&mut self) {
        let labels = self.book.labels();
        let is_news = self.labels.send_if_modified(|shown| {
            let is_news = !Arc::ptr_eq(shown, labels);
            if is_news {
                *shown = Arc::clone(labels);
            }
            is_news
        });
        if is_news {
            self.tell_groups();
        }
    }
}
