//! Waiting for a condition with a deadline instead of sleeping.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// What one look at a condition found.
#[derive(Debug)]
pub enum Seen<T> {
    /// The condition holds; this is what the waiter gets.
    Done(T),
    /// Not yet; the text is shown if it never holds.
    NotYet(String),
}

/// Answers that can be waited for: `bool`, `Option<T>` and, to tell more on a timeout, [`Seen`].
pub trait Look {
    /// What the waiter gets.
    type Value;
    /// Says whether the condition holds.
    fn seen(self) -> Seen<Self::Value>;
}

impl Look for bool {
    type Value = ();
    fn seen(self) -> Seen<()> {
        if self { Seen::Done(()) } else { Seen::NotYet("false".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Value = T;
    fn seen(self) -> Seen<T> {
        self.map_or_else(|| Seen::NotYet("nothing".to_owned()), Seen::Done)
    }
}

impl<T> Look for Seen<T> {
    type Value = T;
    fn seen(self) -> Self {
        self
    }
}

/// Looks every 50 ms until the condition holds; fails after `deadline` with what was seen last.
///
/// An error counts as "not yet" (the thing asked may just be coming up) and is shown at the end.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn main() -> anyhow::Result<()> {
/// # let lab = fleet_lab::Lab::attach(1)?;
/// let h1 = lab.host("h1");
/// fleet_lab::eventually(Duration::from_secs(5), "hello.service is active", || {
///     Ok(h1.exec(&["systemctl", "is-active", "hello.service"])?.status.success())
/// })?;
/// # Ok(()) }
/// ```
#[allow(clippy::disallowed_methods, reason = "there is no async runtime here to block")]
pub fn eventually<L: Look>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<L>) -> Result<L::Value> {
    let start = Instant::now();
    loop {
        let last = match look().map(Look::seen) {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(seen)) => seen,
            Err(error) => format!("error: {error:#}"),
        };
        if start.elapsed() >= deadline {
            bail!("not within {deadline:?}: {what}; last seen: {last}");
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Looks until the answer equals `expected`; on a timeout shows the answer it had instead.
pub fn eventually_eq<T: PartialEq + Debug>(
    deadline: Duration,
    what: &str,
    expected: &T,
    mut look: impl FnMut() -> Result<T>,
) -> Result<()> {
    eventually(deadline, what, || {
        let answer = look()?;
        Ok(if answer == *expected {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{answer:?} instead of {expected:?}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_the_condition_holds() {
        let mut left = 2;
        let value = eventually(Duration::from_secs(5), "countdown", || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(value.ok(), Some("done"));
    }

    #[test]
    fn timeout_tells_what_was_seen_last() {
        let error = eventually_eq(Duration::ZERO, "two", &2, || Ok(1));
        assert_eq!(
            error.err().map(|e| e.to_string()).as_deref(),
            Some("not within 0ns: two; last seen: 1 instead of 2")
        );
        let error = eventually(Duration::ZERO, "up", || -> Result<bool> { bail!("refused") });
        assert_eq!(
            error.err().map(|e| e.to_string()).as_deref(),
            Some("not within 0ns: up; last seen: error: refused")
        );
    }
}
