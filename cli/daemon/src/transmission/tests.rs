//! Recorded dialogues.
