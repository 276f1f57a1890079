//! Where words go: results to stdout, everything else to stderr.

use std::io::{self, Write};

use fleet_client::os_message;

use crate::error::Failure;

/// Writes a result, and the line end.
///
/// # Errors
/// A reader that has gone (`fleetctl list-units | head`) ends the command, quietly.
pub fn result(text: &str) -> Result<(), Failure> {
    write(&harmless(text), "\n")
}

/// Writes a result that has its own line ends.
///
/// # Errors
/// As [`result`].
pub fn verbatim(text: &str) -> Result<(), Failure> {
    write(text, "")
}

/// Says something on stderr. That nobody may be listening there is no reason to stop.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

/// Text without what could command a terminal: words of machines and units may come from anybody.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

fn write(text: &str, end: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}{end}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::broken_pipe(),
        _ => Failure::new(format!("cannot write to standard output: {}", os_message(&error))),
    })
}
