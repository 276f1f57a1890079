//! When a step that failed is tried again.

use std::time::Duration;

/// A step that failed is tried again after the first delay, each time after twice that, at last each time after the second.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A step that failed, and its next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// When it is tried again.
    pub at: Duration,
    /// How long it waits should it fail once more.
    delay: Duration,
}

impl Retry {
    /// After a failure at `now`. `spread`, between 0 and 1, is drawn: hosts that failed together do not come back together.
    pub fn after(earlier: Option<Self>, now: Duration, spread: f64) -> Self {
        let delay = earlier.map_or(DELAYS.0, |earlier| earlier.delay);
        Self { at: now + delay.mul_f64(0.5 + spread / 2.0), delay: (delay * 2).min(DELAYS.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_up_to_the_last() {
        let mut retry = None;
        let waits = (0..10).map(|_| retry.insert(Retry::after(retry, Duration::ZERO, 1.0)).at.as_secs());
        assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let soonest = Retry::after(None, Duration::from_secs(10), 0.0);
        assert_eq!(soonest.at, Duration::from_millis(10_500));
    }
}
