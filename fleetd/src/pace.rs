//! Doing something soon, but not too often.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets a few rounds through at once and then one each interval, so that one change is handled without delay and a
/// thousand are handled together.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    burst: u32,
    /// When all rounds that were let through would be over at one each interval.
    over: Instant,
}

impl Pacer {
    /// At most `burst` rounds at once, one each `interval` in the long run.
    #[must_use]
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, over: Instant::now() }
    }

    /// Waits until the next round may begin, and begins it. Nothing is lost when the wait is given up.
    pub async fn round(&mut self) {
        sleep_until(self.next_round()).await;
        self.take();
    }

    /// When the next round may begin.
    #[must_use]
    pub fn next_round(&self) -> Instant {
        self.over.checked_sub(self.interval * (self.burst - 1)).unwrap_or(self.over)
    }

    /// Begins a round.
    pub fn take(&mut self) {
        self.over = self.over.max(Instant::now()) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_rounds_come_at_once_and_many_at_their_interval() {
        let mut pacer = Pacer::new(Duration::from_millis(100), 3);
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..6 {
            pacer.round().await;
            times.push(start.elapsed().as_millis());
        }
        assert_eq!(times, [0, 0, 0, 100, 200, 300]);
        tokio::time::advance(Duration::from_secs(10)).await;
        let later = Instant::now();
        for _ in 0..3 {
            pacer.round().await;
        }
        assert!(later.elapsed() < Duration::from_millis(50), "a pause brings the burst back");
    }
}
