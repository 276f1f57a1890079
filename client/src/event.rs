//! What a client has to tell beside its answers.

use crate::Transport;

/// What happens beside the answers, for those who show it to people.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A request goes out.
    Asks {
        /// Its method.
        method: &'e str,
        /// Its path, with the query.
        path: &'e str,
        /// Who is asked.
        of: &'e Transport,
    },
    /// Etcd is out of reach, so an answer tells what was true some seconds ago. Said once.
    Old {
        /// How many.
        seconds: &'e str,
    },
}

/// Who is told of events.
pub type Listener = Box<dyn Fn(Event<'_>) + Send + Sync>;
