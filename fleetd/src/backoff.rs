//! Waiting longer after every failure.

use std::time::Duration;

/// Delays that double from a first one up to a last one, each shortened by up to half at random, so that hosts
/// which failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    current: Duration,
}

impl Backoff {
    /// Delays from `first` to `last`.
    #[must_use]
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, current: first }
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        let delay = self.current;
        self.current = (delay * 2).min(self.last);
        jitter(delay)
    }

    /// Success: begin anew.
    pub fn reset(&mut self) {
        self.current = self.first;
    }
}

/// Between half of `delay` and all of it.
#[must_use]
pub fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_last_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for full in [1, 2, 4, 4] {
            let delay = backoff.delay();
            assert!(delay >= Duration::from_secs(full) / 2 && delay <= Duration::from_secs(full), "{delay:?}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_secs(1));
    }
}
