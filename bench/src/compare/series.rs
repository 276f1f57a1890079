//! What a row of the table is made of: the rounds of one thing, in their order.

use std::time::Duration;

/// Figures of one round after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(Vec<f64>);

impl Series {
    /// No round yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a time, in seconds.
    pub fn push_time(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    /// Adds a figure.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// How many rounds there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one in the middle; of an even number, the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
    }

    /// The smallest and the largest.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let smallest = self.0.iter().copied().reduce(f64::min)?;
        let largest = self.0.iter().copied().reduce(f64::max)?;
        Some((smallest, largest))
    }

    /// Round by round, how many times `floor` this is when `grace` is taken off. Nothing has no multiple.
    #[must_use]
    pub fn over(&self, floor: &Self, grace: f64) -> Self {
        let ratios = self.0.iter().zip(&floor.0).map(|(ours, floor)| (ours - grace) / floor);
        Self(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// `median (smallest–largest)`, each as `show` writes it; `–` when there is nothing.
    #[must_use]
    pub fn shown(&self, show: impl Fn(f64) -> String) -> String {
        let Some((median, (smallest, largest))) = self.median().zip(self.range()) else { return "–".into() };
        let (median, smallest, largest) = (show(median), show(smallest), show(largest));
        if smallest == largest { median } else { format!("{median} ({smallest}–{largest})") }
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// A time in seconds, for people.
#[must_use]
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.09995 => format!("{:.1} ms", seconds * 1000.0),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        figures.iter().copied().collect()
    }

    #[test]
    fn median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(series(&[9.0, 1.0, 5.0]).median(), Some(5.0));
        assert_eq!(series(&[4.0, 1.0, 2.0, 9.0]).median(), Some(3.0));
        assert_eq!(series(&[]).median(), None);
    }

    #[test]
    fn range_is_from_the_smallest_to_the_largest() {
        assert_eq!(series(&[3.0, 1.0, 2.0]).range(), Some((1.0, 3.0)));
        assert_eq!(series(&[]).range(), None);
    }

    #[test]
    fn ratio_is_taken_round_by_round() {
        // A machine that is slow for a while is slow for both.
        let ratio = series(&[2.0, 8.0]).over(&series(&[1.0, 4.0]), 0.0);
        assert_eq!(ratio, series(&[2.0, 2.0]));
        assert_eq!(series(&[11.0]).over(&series(&[2.0]), 10.0), series(&[0.5]));
        assert_eq!(series(&[1.0, 0.0]).over(&series(&[0.0, 0.0]), 0.0), series(&[]));
    }

    #[test]
    fn figures_are_shown_with_their_range_unless_they_are_all_the_same() {
        assert_eq!(series(&[0.012, 0.010, 0.5]).shown(time), "12.0 ms (10.0 ms–500 ms)");
        assert_eq!(series(&[1.5]).shown(time), "1.50 s");
        assert_eq!(series(&[]).shown(time), "–");
    }
}
