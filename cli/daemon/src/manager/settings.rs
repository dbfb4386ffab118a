//! What users set of the daemon as a whole, and the schedule of the alternative limits.

use super::commands::{Command, Handle};
use super::{Manager, now, refusal};
use crate::config::Rules;
use crate::settings::{Settings, SettingsEdit, Standing, local_minute};
use crate::torrents::Refusal;
use std::sync::Arc;

impl Handle {
    /// Sets what holds for all torrents together, over what the configuration says.
    ///
    /// # Errors
    /// If it makes no sense, or could not be written.
    pub async fn set_settings(&self, edit: SettingsEdit) -> Result<(), Refusal> {
        self.ask(|reply| Command::Settings(Box::new(edit), reply)).await
    }
}

/// What holds now.
pub(super) fn standing(configured: Rules, settings: Settings) -> Standing {
    let now = now();
    let alternative = settings.is_alternative(now, local_minute(now));
    Standing { configured, settings, alternative }
}

impl Manager {
    pub(super) async fn set_settings(&mut self, edit: &SettingsEdit) -> Result<(), Refusal> {
        edit.check()?;
        let before = Standing::clone(&self.standing.borrow());
        let settings = before.settings.with(edit, now());
        let kept = settings.to_kept();
        let result = self.store.run(move |store| store.set(&kept)).await;
        self.on_written(&result);
        result.map_err(|error| refusal(&error))?;
        self.hold(standing(before.configured, settings));
        Ok(())
    }

    /// Has these rules in force, but for what users have set over them.
    pub(super) fn reload(&mut self, configured: Rules) {
        let settings = self.standing.borrow().settings.clone();
        self.hold(standing(configured, settings));
    }

    /// Turns the alternative limits on or off when it is time.
    pub(super) fn check_schedule(&mut self) {
        let before = self.standing.borrow().clone();
        if !before.settings.schedule.enabled {
            return;
        }
        let new = standing(before.configured.clone(), before.settings.clone());
        if new.alternative != before.alternative {
            self.hold(new);
        }
    }

    fn hold(&mut self, standing: Standing) {
        let rules = standing.rules();
        self.session.set_upload_limit(rules.upload_limit);
        self.session.set_download_limit(rules.download_limit);
        self.rules.send_replace(Arc::new(rules));
        self.standing.send_replace(Arc::new(standing));
        self.turns = None;
    }
}
