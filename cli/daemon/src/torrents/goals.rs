//! When enough was seeded.

use super::record::{Record, StoppedBy};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What a torrent is to reach before it stops: a value of its own, none, or what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Goal<T> {
    /// This much.
    Value(T),
    /// A word instead.
    Word(GoalWord),
    /// What the configuration says; left out in JSON.
    #[default]
    #[serde(skip)]
    Default,
}

/// What a goal can be counted in.
pub trait GoalValue: Sized {
    /// From a number.
    fn of(number: f64) -> Option<Self>;
}

impl GoalValue for f64 {
    fn of(number: f64) -> Option<f64> {
        Some(number)
    }
}

impl GoalValue for u64 {
    fn of(number: f64) -> Option<u64> {
        (number >= 0.0 && number.fract() == 0.0 && number < 9.0e15).then_some(number as u64)
    }
}

/// A number, as such or in text as in a query, or one of the words.
impl<'de, T: GoalValue> Deserialize<'de> for Goal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Goal<T>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(f64),
            Text(String),
        }
        let number = match Given::deserialize(deserializer)? {
            Given::Number(number) => Some(number),
            Given::Text(text) if text == "none" => return Ok(Goal::Word(GoalWord::None)),
            Given::Text(text) if text == "default" => return Ok(Goal::Word(GoalWord::Default)),
            Given::Text(text) => text.parse().ok(),
        };
        let value = number.and_then(T::of);
        value
            .map(Goal::Value)
            .ok_or_else(|| D::Error::custom("is not a number from 0 up, \"none\" or \"default\""))
    }
}

/// A goal that is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalWord {
    /// What the configuration says.
    Default,
    /// It never stops by itself.
    None,
}

impl<T: Copy> Goal<T> {
    /// The value that holds, given the configuration's.
    pub fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Goal::Value(value) => Some(value),
            Goal::Word(GoalWord::None) => None,
            Goal::Word(GoalWord::Default) | Goal::Default => default,
        }
    }
}

/// What holds for torrents without goals of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Goals {
    /// Sent, in multiples of the size.
    pub ratio: Option<f64>,
    /// Seeded, in seconds.
    pub seed_time: Option<u64>,
}

/// The goal that a torrent has reached, if it stops for it now. `seconds_seeding` includes the time since its record was changed.
pub fn reached(record: &Record, goals: &Goals, seconds_seeding: u64) -> Option<StoppedBy> {
    let options = &record.options;
    if options.paused || record.stopped_by.is_some() || !record.is_complete() {
        return None;
    }
    let ratio = options.ratio_limit.or(goals.ratio);
    if ratio.is_some_and(|ratio| record.progress.bytes_total > 0 && record.ratio() >= ratio) {
        return Some(StoppedBy::Ratio);
    }
    let seed_time = options.seed_time_limit.or(goals.seed_time);
    seed_time.is_some_and(|seconds| seconds_seeding >= seconds).then_some(StoppedBy::SeedTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(bytes_up: u64) -> Record {
        let mut record = Record { completed_at: Some(1), ..Record::default() };
        record.progress.bytes_total = 1_000;
        record.totals.bytes_up = bytes_up;
        record
    }

    #[test]
    fn a_ratio_stops_what_is_complete_once() {
        let goals = Goals { ratio: Some(2.0), seed_time: None };
        assert_eq!(reached(&seed(1_999), &goals, 0), None);
        assert_eq!(reached(&seed(2_000), &goals, 0), Some(StoppedBy::Ratio));
        let unfinished = Record { completed_at: None, ..seed(5_000) };
        assert_eq!(reached(&unfinished, &goals, 0), None);
        // Somebody has resumed it since.
        let resumed = Record { stopped_by: Some(StoppedBy::Ratio), ..seed(5_000) };
        assert_eq!(reached(&resumed, &goals, 0), None);
    }

    #[test]
    fn a_torrents_own_goal_comes_before_the_configurations() {
        let goals = Goals { ratio: Some(2.0), seed_time: Some(60) };
        let mut record = seed(5_000);
        record.options.ratio_limit = Goal::Word(GoalWord::None);
        assert_eq!(reached(&record, &goals, 59), None);
        assert_eq!(reached(&record, &goals, 60), Some(StoppedBy::SeedTime));
        record.options.seed_time_limit = Goal::Value(100);
        assert_eq!(reached(&record, &goals, 99), None);
        assert_eq!(reached(&record, &Goals::default(), 100), Some(StoppedBy::SeedTime));
    }

    #[test]
    fn goals_in_json_are_numbers_or_words() {
        let goal = |text: &str| serde_json::from_str::<Goal<f64>>(text).unwrap();
        assert_eq!(goal("1.5"), Goal::Value(1.5));
        assert_eq!(goal("\"none\""), Goal::Word(GoalWord::None));
        assert_eq!(goal("\"default\""), Goal::Word(GoalWord::Default));
        assert!(serde_json::from_str::<Goal<f64>>("\"never\"").is_err());
    }
}
