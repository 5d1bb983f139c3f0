//! A terminal that is drawn on: all of it, until a key ends that.

use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nekton::{Error, Result};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Another screen than the one with what was typed before, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal, as it was again when this is dropped.
pub(crate) struct Terminal {
    before: Option<Termios>,
    ends: Receiver<()>,
}

impl Terminal {
    /// `None` if what is printed goes elsewhere.
    pub(crate) fn open() -> Result<Option<Self>> {
        if !std::io::stdout().is_terminal() {
            return Ok(None);
        }
        let (end, ends) = channel();
        let before = keys(&end);
        // Ctrl-C, where keys are not read one by one, and whoever ends it otherwise.
        let handled = ctrlc::set_handler(move || {
            let _ = end.send(());
        });
        handled.map_err(|error| Error::config(format!("signals cannot be handled: {error}")))?;
        let terminal = Terminal { before, ends };
        draw(ENTER)?;
        Ok(Some(terminal))
    }

    /// Columns and lines.
    pub(crate) fn size() -> (usize, usize) {
        terminal_size::terminal_size().map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()))
    }

    /// Shows these lines from the top on, as far as they fit, and nothing else.
    pub(crate) fn show(&self, text: &str) -> Result<()> {
        let (width, height) = Self::size();
        let mut drawn = String::from("\x1b[H");
        for line in text.lines().take(height.max(1)) {
            drawn.extend(line.chars().take(width));
            drawn.push_str("\x1b[K\r\n");
        }
        // No blank line below the last one: the terminal would scroll.
        drawn.truncate(drawn.trim_end_matches("\r\n").len());
        drawn.push_str("\x1b[J");
        draw(&drawn)
    }

    /// Waits for so long; whether somebody wants it to end.
    pub(crate) fn ends_within(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        match self.ends.recv_timeout(wait) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                false
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = draw(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Has keys read one by one, if there is a keyboard; gives what the terminal was like before.
fn keys(end: &Sender<()>) -> Option<Termios> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut single = before.clone();
    single.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
    tcsetattr(std::io::stdin(), SetArg::TCSANOW, &single).ok()?;
    let end = end.clone();
    // It waits for keys until the process ends.
    let read = move || {
        let mut keys = [0; 64];
        while let Ok(read @ 1..) = std::io::stdin().read(&mut keys) {
            if keys[..read].iter().any(|key| matches!(key, b'q' | b'Q' | 4)) {
                let _ = end.send(());
            }
        }
    };
    let _ = std::thread::Builder::new().name("keys".to_owned()).spawn(read);
    Some(before)
}

fn draw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let drawn = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drawn.map_err(|error| Error::io("writing to the terminal", &error))
}
