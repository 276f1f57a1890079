//! Following the cluster as it changes: the statuses of units ([`Feed`]), and whether a list may be another by now
//! ([`ListFollower`]).

mod feed;
mod list;

pub use self::{feed::Feed, list::ListFollower};
