//! Etcd out of reach, as the log tells it: a line when it begins, one a minute, and one when it is over.
//!
//! In: whether requests to etcd are answered, all of them. Out: those lines, and no others: what waits for etcd goes on
//! trying, and says so to nobody but the debug log. One that comes back only to be gone again at once is not told of
//! each time.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

/// Between two lines of one outage.
const REMINDER: Duration = Duration::from_secs(60);
/// An outage that begins so shortly after another has to last so long to be told of.
const RELAPSE: Duration = Duration::from_secs(10);

/// Tells whether etcd is out of reach.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

impl Outage {
    /// No member has answered a request. `cause` is why, in plain words.
    pub(super) fn failed(&self, cause: &dyn fmt::Display) {
        match self.look(|state| state.failed(Instant::now())) {
            Some(News::Away) => {
                warn!("etcd is out of reach ({cause}): units run on, changes wait until it is back");
            }
            Some(News::Still(lasts)) => warn!("etcd is still out of reach, for {} now ({cause})", Span(lasts)),
            Some(News::Back(_)) | None => {}
        }
    }

    /// A request was answered, if only with a refusal.
    pub(super) fn answered(&self) {
        if let Some(News::Back(lasted)) = self.look(|state| state.answered(Instant::now())) {
            info!("etcd is back after {}", Span(lasted));
        }
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Away,
    Still(Duration),
    Back(Duration),
}

/// What is known and was told. It begins with etcd in reach.
#[derive(Debug, Default)]
struct State {
    /// Since when it has been out of reach.
    since: Option<Instant>,
    /// When that was told last.
    told: Option<Instant>,
    /// When it was told last that it is back.
    back: Option<Instant>,
}

impl State {
    fn failed(&mut self, now: Instant) -> Option<News> {
        let since = *self.since.get_or_insert(now);
        let relapse = self.back.is_some_and(|back| since < back + RELAPSE);
        let news = match self.told {
            None if relapse && now < since + RELAPSE => return None,
            None => News::Away,
            Some(told) if now < told + REMINDER => return None,
            Some(_) => News::Still(now - since),
        };
        self.told = Some(now);
        Some(news)
    }

    fn answered(&mut self, now: Instant) -> Option<News> {
        let since = self.since.take()?;
        self.told.take()?;
        self.back = Some(now);
        Some(News::Back(now - since))
    }
}

/// A time as people say it.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..10 => write!(f, "{seconds}.{} s", self.0.subsec_millis() / 100),
            seconds @ 10..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// What is told while etcd is asked each second, and answers where the script has a dot.
    async fn told(script: &str) -> Vec<(u64, News)> {
        let (start, mut state, mut told) = (Instant::now(), State::default(), Vec::new());
        for answers in script.chars().map(|sign| sign == '.') {
            let now = Instant::now();
            let news = if answers { state.answered(now) } else { state.failed(now) };
            told.extend(news.map(|news| ((now - start).as_secs(), news)));
            advance(Duration::from_secs(1)).await;
        }
        told
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn outage_is_one_line_at_its_beginning_one_a_minute_and_one_at_its_end() {
        let script = format!("..{}....", "x".repeat(150));
        let still = |lasts| News::Still(seconds(lasts));
        let expected = [(2, News::Away), (62, still(60)), (122, still(120)), (152, News::Back(seconds(150)))];
        assert_eq!(told(&script).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn etcd_that_comes_and_goes_is_told_of_once_and_again_when_it_stays_away() {
        let flickers = told(".x.x.x.x.x.x.x").await;
        assert_eq!(flickers, [(1, News::Away), (2, News::Back(seconds(1))), (13, News::Away)]);
        let stays = told(&format!(".x.{}.", "x".repeat(20))).await;
        let expected = [(1, News::Away), (2, News::Back(seconds(1))), (13, News::Away), (23, News::Back(seconds(20)))];
        assert_eq!(stays, expected);
        assert!(told("......").await.is_empty());
    }

    #[test]
    fn spans_are_told_as_people_do() {
        let spans = [(Duration::from_millis(1350), "1.3 s"), (seconds(42), "42 s"), (seconds(192), "3 min 12 s")];
        for (span, text) in spans.into_iter().chain([(seconds(7500), "2 h 5 min")]) {
            assert_eq!(Span(span).to_string(), text);
        }
    }
}
