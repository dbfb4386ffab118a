//! Who has logged in, by the cookies that they got.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many sessions there may be. The one that was not used for longest makes room.
const SESSIONS_MAX: usize = 1_000;
/// A session that is not used for so long has ended.
const IDLE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// No session is longer.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How many random bytes the name of a session has.
const KEY_BYTES: usize = 32;

/// What a cookie names a session by. It is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> std::io::Result<Key> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Key(bytes))
    }

    /// As a cookie has it.
    pub fn to_text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Of what a cookie has.
    pub fn of_text(text: &str) -> Option<Key> {
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; KEY_BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Key(bytes))
    }
}

#[derive(Clone, Copy, Debug)]
struct Session {
    begun: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE_MAX
            || now.saturating_duration_since(self.begun) >= AGE_MAX
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Key, Session>);

impl Sessions {
    /// A session has begun.
    pub fn begin(&mut self, key: Key, now: Instant) {
        if self.0.len() >= SESSIONS_MAX {
            self.0.retain(|_, session| !session.is_over(now));
        }
        if self.0.len() >= SESSIONS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, Session { begun: now, used: now });
    }

    /// Whether there is such a session, which is used now.
    pub fn uses(&mut self, key: Key, now: Instant) -> bool {
        let Some(session) = self.0.get_mut(&key) else { return false };
        if session.is_over(now) {
            self.0.remove(&key);
            return false;
        }
        session.used = now;
        true
    }

    /// A session ends.
    pub fn end(&mut self, key: Key) {
        self.0.remove(&key);
    }

    /// All sessions end.
    pub fn end_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_by_themselves_when_told_and_for_others() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let key = Key::random().unwrap();
        assert_eq!(Key::of_text(&key.to_text()), Some(key));
        assert!(Key::of_text("").is_none() && Key::of_text(&"é".repeat(32)).is_none());
        sessions.begin(key, start);
        let mut now = start;
        while now + IDLE_MAX / 2 < start + AGE_MAX {
            now += IDLE_MAX / 2;
            assert!(sessions.uses(key, now));
        }
        assert!(!sessions.uses(key, start + AGE_MAX));
        sessions.begin(key, start);
        assert!(!sessions.uses(key, start + IDLE_MAX));
        sessions.begin(key, start);
        sessions.end(key);
        assert!(!sessions.uses(key, start));
        for nth in 0..=SESSIONS_MAX {
            sessions.begin(Key::random().unwrap(), start + Duration::from_secs(1 + nth as u64));
            sessions.uses(key, start);
        }
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
        sessions.end_all();
        assert!(sessions.0.is_empty());
    }
}
