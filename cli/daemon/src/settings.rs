//! What users set of the daemon as a whole, over what the configuration says. What listens and authenticates, which folders may be used, and
//! programs that are run are not among it: those come from the configuration alone.

use crate::config::Rules;
use crate::torrents::Refusal;
use crate::torrents::goals::{Goal, GoalValue, GoalWord, Goals};
use crate::torrents::labels::{SharedLimits, check_limit};
use crate::torrents::queue::Turns;
use crate::torrents::schedule::{Minute, Schedule};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How many torrents may be named as running at the same time.
const TURNS_MAX: u64 = 1_000_000;

/// What users have set, as it is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The limit of payload sent, all torrents together.
    #[serde(skip_serializing_if = "is_default")]
    pub upload_limit: Goal<u64>,
    /// The limit of payload received.
    #[serde(skip_serializing_if = "is_default")]
    pub download_limit: Goal<u64>,
    /// The alternative limit of payload sent; `None`: no limit.
    pub alternative_upload_limit: Option<u64>,
    /// The alternative limit of payload received; `None`: no limit.
    pub alternative_download_limit: Option<u64>,
    /// Whether the alternative limits were turned on by hand.
    pub alternative: bool,
    /// When that was, in seconds since 1970: it holds until the schedule's next change. `None`: the schedule holds, if it is followed.
    pub alternative_since: Option<i64>,
    /// When the alternative limits hold by themselves.
    pub schedule: Schedule,
    /// How many torrents may download at a time.
    #[serde(skip_serializing_if = "is_default")]
    pub max_active_downloads: Goal<u64>,
    /// How many torrents may seed at a time.
    #[serde(skip_serializing_if = "is_default")]
    pub max_active_seeds: Goal<u64>,
    /// Torrents without a goal of their own stop when they have sent this many times their size.
    #[serde(skip_serializing_if = "is_default")]
    pub ratio_limit: Goal<f64>,
    /// And when they have seeded for so many seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub seed_time_limit: Goal<u64>,
}

fn is_default<T: PartialEq>(goal: &Goal<T>) -> bool {
    matches!(goal, Goal::Default | Goal::Word(GoalWord::Default))
}

/// What is to be changed of the daemon as a whole. What is left out stays. Numbers may be "default" too: what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsEdit {
    /// The limit of payload sent, all torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    pub upload_limit: Option<Goal<u64>>,
    /// The limit of payload received, all torrents together, in bytes/s; null lifts it.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    pub download_limit: Option<Goal<u64>>,
    /// The limit of payload sent while the alternative limits hold, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub alternative_upload_limit: Option<Option<u64>>,
    /// The limit of payload received while the alternative limits hold, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub alternative_download_limit: Option<Option<u64>>,
    /// Whether the alternative limits hold: if a schedule is followed, until its next change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternative: Option<bool>,
    /// When the alternative limits hold by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How many torrents may download at a time; null: all.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    pub max_active_downloads: Option<Goal<u64>>,
    /// How many torrents may seed at a time; null: all.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    pub max_active_seeds: Option<Goal<u64>>,
    /// Torrents without a goal of their own stop when they have sent this many times their size; null: never.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<f64>>)]
    pub ratio_limit: Option<Goal<f64>>,
    /// Torrents without a goal of their own stop when they have seeded for so many seconds; null: never.
    #[serde(deserialize_with = "goal", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    pub seed_time_limit: Option<Goal<u64>>,
}

/// A goal that is there; null is none.
fn goal<'de, T: GoalValue, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Goal<T>>, D::Error> {
    let given = Option::<Goal<T>>::deserialize(deserializer)?;
    Ok(Some(given.unwrap_or(Goal::Word(GoalWord::None))))
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl SettingsEdit {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Refusal> {
        let value = |goal: Option<Goal<u64>>| match goal {
            Some(Goal::Value(value)) => Some(value),
            _ => None,
        };
        for (name, limit) in [
            ("upload_limit", value(self.upload_limit)),
            ("download_limit", value(self.download_limit)),
            ("alternative_upload_limit", self.alternative_upload_limit.flatten()),
            ("alternative_download_limit", self.alternative_download_limit.flatten()),
        ] {
            check_limit(name, limit)?;
        }
        for (name, count) in [
            ("max_active_downloads", value(self.max_active_downloads)),
            ("max_active_seeds", value(self.max_active_seeds)),
        ] {
            if count.is_some_and(|count| count > TURNS_MAX) {
                return Err(Refusal::Invalid(format!("{name}: is a number up to {TURNS_MAX}")));
            }
        }
        if let Some(Goal::Value(ratio)) = self.ratio_limit
            && !(ratio.is_finite() && ratio >= 0.0)
        {
            return Err(Refusal::Invalid(format!("ratio_limit: {ratio} is not a number from 0 up")));
        }
        match self.schedule.is_none_or(|schedule| schedule.is_valid()) {
            true => Ok(()),
            false => Err(Refusal::Invalid(
                "schedule: from and to are minutes after midnight, 0 to 1439, and days 0 to 127".to_owned(),
            )),
        }
    }
}

impl Settings {
    /// What was kept. What cannot be read is passed over, with a word in the log.
    pub fn of_kept(kept: &BTreeMap<String, String>) -> Settings {
        let mut fields = serde_json::Map::new();
        for (name, text) in kept {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { continue };
            let one = serde_json::Map::from_iter([(name.clone(), value.clone())]);
            match serde_json::from_value::<Settings>(one.into()) {
                Ok(_) => drop(fields.insert(name.clone(), value)),
                Err(error) => tracing::warn!(name, %error, "a setting that was kept cannot be read"),
            }
        }
        serde_json::from_value(fields.into()).unwrap_or_default()
    }

    /// Each of them by name, as it is kept; `None`: not at all.
    pub fn to_kept(&self) -> Vec<(String, Option<String>)> {
        let fields = |settings: &Settings| match serde_json::to_value(settings) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (mut ours, none) = (fields(self), fields(&Settings::default()));
        ours.retain(|name, value| none.get(name) != Some(value));
        let names = ["upload_limit", "download_limit", "max_active_downloads", "max_active_seeds"];
        let names = names.into_iter().chain(["ratio_limit", "seed_time_limit"]).map(str::to_owned);
        let names: std::collections::BTreeSet<String> =
            names.chain(none.into_iter().map(|(k, _)| k)).collect();
        names.into_iter().map(|name| (name.clone(), ours.get(&name).map(ToString::to_string))).collect()
    }

    /// These, changed.
    pub fn with(&self, edit: &SettingsEdit, now: i64) -> Settings {
        let mut new = self.clone();
        new.upload_limit = edit.upload_limit.unwrap_or(new.upload_limit);
        new.download_limit = edit.download_limit.unwrap_or(new.download_limit);
        new.alternative_upload_limit = edit.alternative_upload_limit.unwrap_or(new.alternative_upload_limit);
        new.alternative_download_limit =
            edit.alternative_download_limit.unwrap_or(new.alternative_download_limit);
        if let Some(schedule) = edit.schedule {
            // From now on it is followed, whatever was said by hand before.
            new.schedule = schedule;
            new.alternative_since = None;
        }
        if let Some(alternative) = edit.alternative {
            (new.alternative, new.alternative_since) = (alternative, Some(now));
        }
        new.max_active_downloads = edit.max_active_downloads.unwrap_or(new.max_active_downloads);
        new.max_active_seeds = edit.max_active_seeds.unwrap_or(new.max_active_seeds);
        new.ratio_limit = edit.ratio_limit.unwrap_or(new.ratio_limit);
        new.seed_time_limit = edit.seed_time_limit.unwrap_or(new.seed_time_limit);
        new
    }

    /// Whether the alternative limits hold now, which is this minute of the local week.
    pub fn is_alternative(&self, now: i64, minute: Minute) -> bool {
        if !self.schedule.enabled {
            return self.alternative;
        }
        let begun = now - now.rem_euclid(60);
        let changed = self.schedule.since_change(minute).map(|ago| begun - 60 * i64::from(ago));
        let by_hand = self.alternative_since.filter(|since| changed.is_none_or(|changed| *since >= changed));
        if by_hand.is_some() { self.alternative } else { self.schedule.contains(minute) }
    }
}

/// What holds of the daemon as a whole: what the configuration says, and what users have set over it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// What the configuration says.
    pub configured: Rules,
    /// What users have set.
    pub settings: Settings,
    /// Whether the alternative limits hold.
    pub alternative: bool,
}

impl Standing {
    /// The limits that hold while the alternative ones do not.
    pub fn limits(&self) -> SharedLimits {
        SharedLimits {
            upload_limit: self.settings.upload_limit.or(self.configured.upload_limit),
            download_limit: self.settings.download_limit.or(self.configured.download_limit),
        }
    }

    /// How many torrents may run at the same time.
    pub fn turns(&self) -> Turns {
        let turns = |set: Goal<u64>, configured: Option<usize>| {
            let count = set.or(configured.map(|count| count as u64));
            count.map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        };
        Turns {
            downloads: turns(self.settings.max_active_downloads, self.configured.turns.downloads),
            seeds: turns(self.settings.max_active_seeds, self.configured.turns.seeds),
        }
    }

    /// When torrents without goals of their own have seeded enough.
    pub fn goals(&self) -> Goals {
        Goals {
            ratio: self.settings.ratio_limit.or(self.configured.goals.ratio),
            seed_time: self.settings.seed_time_limit.or(self.configured.goals.seed_time),
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        let limits = match self.alternative {
            true => SharedLimits {
                upload_limit: self.settings.alternative_upload_limit,
                download_limit: self.settings.alternative_download_limit,
            },
            false => self.limits(),
        };
        Rules {
            turns: self.turns(),
            goals: self.goals(),
            upload_limit: limits.upload_limit,
            download_limit: limits.download_limit,
            ..self.configured.clone()
        }
    }
}

/// The minute of the week that a time is in, where this machine stands.
pub fn local_minute(now: i64) -> Minute {
    let at = jiff::Timestamp::from_second(now).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    let [day, hour, minute] =
        [at.weekday().to_monday_zero_offset(), at.hour(), at.minute()].map(|n| u32::try_from(n).unwrap_or(0));
    Minute::new(day, hour, minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(json: &str) -> SettingsEdit {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_set_comes_before_the_configuration_and_can_be_taken_back() {
        let configured = Rules {
            upload_limit: Some(10),
            turns: Turns { downloads: Some(3), seeds: None },
            ..Rules::default()
        };
        let mut standing = Standing { configured, ..Standing::default() };
        let mut set = |json: &str| {
            standing.settings = standing.settings.with(&edit(json), 0);
            let rules = standing.rules();
            (rules.upload_limit, rules.turns.downloads, rules.goals.ratio)
        };
        assert_eq!(set("{}"), (Some(10), Some(3), None));
        assert_eq!(
            set(r#"{"upload_limit": 7, "max_active_downloads": 0, "ratio_limit": 1.5}"#),
            (Some(7), Some(0), Some(1.5))
        );
        assert_eq!(set(r#"{"upload_limit": null}"#), (None, Some(0), Some(1.5)));
        assert_eq!(set(r#"{"upload_limit": "default", "ratio_limit": "none"}"#), (Some(10), Some(0), None));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (json, named) in [
            (r#"{"upload_limit": 0}"#, "upload_limit"),
            (r#"{"alternative_download_limit": 0}"#, "alternative_download_limit"),
            (r#"{"max_active_seeds": 1000001}"#, "max_active_seeds"),
            (r#"{"ratio_limit": -1}"#, "ratio_limit"),
            (r#"{"schedule": {"from": 1440}}"#, "schedule"),
        ] {
            let Err(Refusal::Invalid(message)) = edit(json).check() else { panic!("{json}") };
            assert!(message.starts_with(named), "{message}");
        }
        for json in [r#"{"http": "0.0.0.0:80"}"#, r#"{"dir": "/etc"}"#, r#"{"on_complete": ["sh"]}"#] {
            assert!(serde_json::from_str::<SettingsEdit>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn they_are_kept_and_read_again() {
        let text = r#"{"upload_limit": null, "alternative": true, "max_active_seeds": 2, "seed_time_limit": 60,
            "alternative_upload_limit": 5, "schedule": {"enabled": true, "from": 1, "to": 2, "days": 3}}"#;
        let settings = Settings::default().with(&edit(text), 77);
        let kept = settings.to_kept().into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut kept: BTreeMap<String, String> = kept.collect();
        assert_eq!(kept["upload_limit"], "\"none\"");
        kept.insert("alive_at".into(), "5".into());
        assert_eq!(Settings::of_kept(&kept), settings);
        kept.insert("schedule".into(), "7".into());
        assert_eq!(Settings::of_kept(&kept), Settings { schedule: Schedule::default(), ..settings });
        assert!(Settings::default().to_kept().iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn the_schedule_turns_alternative_limits_on_and_a_hand_until_its_next_change() {
        // 1970 began on a Thursday, day 3.
        let minute = |now: i64| Minute::new(3, 0, (now / 60) as u32);
        let schedule = Schedule { enabled: true, from: 10, to: 20, days: 0x7f };
        let mut settings = Settings { schedule, ..Settings::default() };
        let at = |settings: &Settings, now: i64| settings.is_alternative(now, minute(now));
        assert_eq!([599, 600, 1_199, 1_200].map(|now| at(&settings, now)), [false, true, true, false]);
        settings = settings.with(&SettingsEdit { alternative: Some(false), ..SettingsEdit::default() }, 700);
        assert_eq!([700, 1_199, 1_200].map(|now| at(&settings, now)), [false, false, false]);
        settings = settings.with(&SettingsEdit { alternative: Some(true), ..SettingsEdit::default() }, 1_300);
        assert!(at(&settings, 1_400) && at(&settings, 600 + 86_400));
        assert!(!at(&settings, 1_200 + 86_400), "its next change but one");
        settings.schedule.enabled = false;
        assert!(at(&settings, 1_200 + 86_400));
        let off = SettingsEdit { schedule: Some(schedule), ..SettingsEdit::default() };
        assert!(!at(&settings.with(&off, 1_500), 1_500), "it is followed from when it is set");
    }
}
