//! The clocks that leases are judged by and that a snapshot tells moments by.

use std::{sync::LazyLock, time::Duration};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, sleep_until},
};

/// A clock that never jumps. Its times are durations since some moment in the past.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// `CLOCK_BOOTTIME`: goes on while the host is suspended, as the leases in etcd do.
    Boottime,
    /// Tokio's clock since a moment, which a simulation can pause.
    Simulated(Instant),
}

impl Clock {
    /// Now.
    #[must_use]
    pub fn now(self) -> Duration {
        match self {
            Self::Boottime => {
                let now = clock_gettime(ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).expect("time since the boot is positive");
                Duration::from_secs(seconds) + Duration::from_nanos(now.tv_nsec.unsigned_abs())
            }
            Self::Simulated(start) => start.elapsed(),
        }
    }

    /// Waits until `at`; a suspend counts.
    pub async fn sleep_until(self, at: Duration) {
        match self {
            Self::Boottime => {
                // Tokio's timers stand still while the host is suspended; they are what is left when there is no
                // other timer to be had.
                if timer(at).await.is_err() {
                    tokio::time::sleep(at.saturating_sub(self.now())).await;
                }
            }
            Self::Simulated(start) => sleep_until(start + at).await,
        }
    }
}

/// When the process's clock began: a day before it was first asked for, so that nothing that can be told of lies before.
/// (The paused clocks of several simulations in one process are apart by as long as these last.)
static BEGAN: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now)
});

/// Now by the process's clock: tokio's, as the time since a moment before the process began. Only differences between
/// such times mean something.
#[must_use]
pub fn monotonic() -> Duration {
    monotonic_at(Instant::now())
}

/// A moment by the process's clock.
#[must_use]
pub fn monotonic_at(at: Instant) -> Duration {
    at.saturating_duration_since(*BEGAN)
}

async fn timer(at: Duration) -> std::io::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    // Zero would disarm it.
    let at = at.max(Duration::from_nanos(1));
    let seconds = i64::try_from(at.as_secs()).map_err(std::io::Error::other)?;
    let value = Timespec { tv_sec: seconds, tv_nsec: at.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
    #[expect(deprecated, reason = "unsound for types that change their descriptor, which an `OwnedFd` does not")]
    let timer = AsyncFd::new(timer)?;
    timer.readable().await?.retain_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_the_clock_was_first_asked_for_are_told_apart() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let before = now.checked_sub(minute).expect("the host has run for longer");
        assert_eq!(monotonic_at(now) - monotonic_at(before), minute);
    }

    #[tokio::test]
    async fn boot_time_passes_and_a_moment_that_is_over_is_not_waited_for() {
        let before = Clock::Boottime.now();
        let at = before + Duration::from_millis(20);
        Clock::Boottime.sleep_until(at).await;
        assert!(Clock::Boottime.now() >= at);
        Clock::Boottime.sleep_until(Duration::ZERO).await;
    }
}
