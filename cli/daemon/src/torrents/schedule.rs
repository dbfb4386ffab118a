//! When the alternative limits hold: a pure function of the time of the week.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Minutes of a week.
const WEEK: u32 = 7 * DAY;

/// A minute of the week in local time, counted from Monday at 0:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute(u32);

impl Minute {
    /// The minute of a day; days are counted from 0, Monday.
    pub fn new(day: u32, hour: u32, minute: u32) -> Minute {
        Minute((day * DAY + hour * 60 + minute) % WEEK)
    }

    fn before(self, minutes: u32) -> Minute {
        Minute((self.0 + WEEK - minutes % WEEK) % WEEK)
    }
}

/// Hours of some days of the week, in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Whether it is followed.
    pub enabled: bool,
    /// When it begins, in minutes after midnight.
    pub from: u16,
    /// When it ends, in minutes after midnight; of the next day, if that is not later than it begins.
    pub to: u16,
    /// The days on which it begins: bit 0 is Monday, bit 6 Sunday.
    pub days: u8,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { enabled: false, from: 8 * 60, to: 20 * 60, days: 0x7f }
    }
}

impl Schedule {
    /// Whether it makes sense.
    pub fn is_valid(&self) -> bool {
        u32::from(self.from) < DAY && u32::from(self.to) < DAY && self.days <= 0x7f
    }

    /// Whether this minute is in it.
    pub fn contains(&self, minute: Minute) -> bool {
        let (day, at) = (minute.0 / DAY, minute.0 % DAY);
        let (from, to) = (u32::from(self.from), u32::from(self.to));
        let begins = |day: u32| self.days >> day & 1 == 1;
        if from < to {
            return begins(day) && (from..to).contains(&at);
        }
        begins(day) && at >= from || begins((day + 6) % 7) && at < to
    }

    /// How many minutes ago it has begun or ended last; `None` if it never does.
    pub fn since_change(&self, minute: Minute) -> Option<u32> {
        let is_in = self.contains(minute);
        (0..WEEK).find(|&ago| self.contains(minute.before(ago + 1)) != is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(from: u16, to: u16, days: u8) -> Schedule {
        Schedule { enabled: true, from, to, days }
    }

    #[test]
    fn it_holds_in_its_hours_on_its_days() {
        // Monday and Wednesday.
        let day = schedule(8 * 60, 20 * 60, 0b101);
        for (at, is_in) in [
            (Minute::new(0, 7, 59), false),
            (Minute::new(0, 8, 0), true),
            (Minute::new(0, 19, 59), true),
            (Minute::new(0, 20, 0), false),
            (Minute::new(1, 12, 0), false),
            (Minute::new(2, 12, 0), true),
        ] {
            assert_eq!(day.contains(at), is_in, "{at:?}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        // Sunday's.
        let night = schedule(22 * 60, 6 * 60, 1 << 6);
        for (at, is_in) in [
            (Minute::new(6, 21, 59), false),
            (Minute::new(6, 22, 0), true),
            (Minute::new(0, 5, 59), true),
            (Minute::new(0, 6, 0), false),
            (Minute::new(6, 1, 0), false),
        ] {
            assert_eq!(night.contains(at), is_in, "{at:?}");
        }
        let whole = schedule(60, 60, 1);
        assert!(whole.contains(Minute::new(0, 1, 0)) && whole.contains(Minute::new(1, 0, 59)));
        assert!(!whole.contains(Minute::new(0, 0, 59)) && !whole.contains(Minute::new(1, 1, 0)));
    }

    #[test]
    fn its_last_change_is_known() {
        let day = schedule(8 * 60, 20 * 60, 0b1);
        assert_eq!(day.since_change(Minute::new(0, 8, 0)), Some(0));
        assert_eq!(day.since_change(Minute::new(0, 9, 30)), Some(90));
        assert_eq!(day.since_change(Minute::new(0, 7, 59)), Some(6 * 24 * 60 + 11 * 60 + 59));
        assert_eq!(schedule(0, 0, 0x7f).since_change(Minute::new(3, 3, 3)), None, "always");
        assert_eq!(schedule(0, 60, 0).since_change(Minute::new(3, 3, 3)), None, "never");
    }
}
