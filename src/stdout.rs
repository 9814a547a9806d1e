//! What a command prints for whoever called it.

use std::io::{self, ErrorKind, Write};

/// Writes text as it is. A reader that has seen enough (`| head`) is none of our errors.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
