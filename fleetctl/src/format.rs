//! `--output`: the same facts as text for people, or as JSON for programs.

use clap::{Args, ValueEnum};
use serde::Serialize;

/// The flag of every command that reads.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatArgs {
    /// Print `text`, or `json` with all that is known
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl FormatArgs {
    /// Whether JSON is asked for.
    pub fn is_json(self) -> bool {
        self.output == Format::Json
    }
}

/// JSON over several lines, indented by two spaces.
pub fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect(PLAIN) + "\n"
}

/// JSON on one line, for streams.
pub fn line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect(PLAIN) + "\n"
}

/// A member that is `null` when there is nothing to say.
pub fn member(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(Into::into)
}

/// Why nothing here can fail to become JSON.
const PLAIN: &str = "what is printed is plain structs of strings";
