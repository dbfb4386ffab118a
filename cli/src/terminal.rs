//! The terminal: how wide it is, and bars that leave nothing behind when its width changes or a key is pressed.

use ::console::Term;
use indicatif::TermLike;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The width of what is no terminal, and of a terminal that does not report its own.
const COLUMNS_USUAL: usize = 80;

pub fn err_columns() -> usize {
    columns(&Term::stderr())
}

pub fn out_columns() -> usize {
    columns(&Term::stdout())
}

fn columns(term: &Term) -> usize {
    let size = term.size_checked();
    size.map(|(_, columns)| columns.into()).filter(|&columns| columns > 0).unwrap_or(COLUMNS_USUAL)
}

/// Standard error for bars. Each of their lines is as wide as the terminal, so to the terminal all of them are one
/// line, which it breaks anew when its width changes.
#[derive(Debug)]
pub struct BarTerm {
    term: Term,
    /// The width at which something is drawn; 0 if nothing is.
    drawn: AtomicUsize,
    /// Whether the terminal breaks lines anew.
    is_reflowing: bool,
}

impl BarTerm {
    pub fn new() -> BarTerm {
        // Of terminals in use only xterm cuts lines.
        let is_reflowing = std::env::var_os("XTERM_VERSION").is_none();
        BarTerm { term: Term::buffered_stderr(), drawn: AtomicUsize::new(0), is_reflowing }
    }
}

impl TermLike for BarTerm {
    fn width(&self) -> u16 {
        TermLike::width(&self.term)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    /// The first step of drawing anew: from the beginning of the last line up over the `n` before it.
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        let (before, now) = (self.drawn.swap(0, Relaxed), columns(&self.term));
        if before == 0 || before == now || !self.is_reflowing {
            return self.term.move_cursor_up(n);
        }
        self.term.move_cursor_up(n * before / now)?;
        self.term.write_str("\r\x1b[J")
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.term.move_cursor_left(n)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.term.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawn.store(columns(&self.term), Relaxed);
        self.term.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        // At the end of a line, the echo of Ctrl-C would go to the next one.
        self.term.write_str("\r")?;
        self.term.flush()
    }
}
