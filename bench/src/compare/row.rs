//! One row of the table: what was measured, and whether it is good enough.

use super::series::{Series, time};

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// What came out.
    pub measure: Measure,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// Times of both sides, in seconds.
    Against {
        /// By hand.
        floor: Series,
        /// With fleet.
        ours: Series,
        /// How often the floor is at most allowed; `None` where nothing was aimed at.
        most: Option<f64>,
        /// What fleet is granted on top, in seconds: the TTL, while nobody can know of a loss.
        grace: f64,
    },
    /// A figure that has no floor.
    Figure {
        /// Of each round, or of each host.
        values: Series,
        /// What it is to be at most.
        most: f64,
        /// Written behind figures, like ` MiB`.
        unit: &'static str,
        /// Digits behind the point.
        digits: usize,
    },
}

/// Whether a row is as good as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Missed,
    /// Nothing was aimed at.
    Told,
}

impl Row {
    /// Times of both sides.
    #[must_use]
    pub fn against(what: impl Into<String>, floor: Series, ours: Series, most: Option<f64>) -> Self {
        Self { what: what.into(), measure: Measure::Against { floor, ours, most, grace: 0.0 } }
    }

    /// Whether both sides have figures, as many as each other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.measure {
            Measure::Against { floor, ours, .. } => !ours.is_empty() && floor.len() == ours.len(),
            Measure::Figure { values, .. } => !values.is_empty(),
        }
    }

    /// Whether it is as good as it should be. Of times the median counts, of other figures each one.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (value, most) = match &self.measure {
            Measure::Against { most: None, .. } => return Verdict::Told,
            Measure::Against { floor, ours, most: Some(most), grace } => (ours.over(floor, *grace).median(), *most),
            Measure::Figure { values, most, .. } => (values.range().map(|(_, largest)| largest), *most),
        };
        // What was not measured is not met.
        if value.is_some_and(|value| value <= most) { Verdict::Met } else { Verdict::Missed }
    }

    /// Its cells: what, by hand, fleet, ratio, allowed, verdict.
    #[must_use]
    pub fn cells(&self) -> [String; 6] {
        let (floor, ours, ratio, allowed) = match &self.measure {
            Measure::Against { floor, ours, most, grace } => {
                let ratio = ours.over(floor, *grace);
                let (ratio, granted) = if *grace > 0.0 {
                    (format!("TTL {}", ratio.shown(|ratio| format!("{ratio:+.2}"))), "TTL +")
                } else {
                    (ratio.shown(|ratio| format!("{ratio:.2}")), "")
                };
                let allowed = most.map_or_else(|| "–".into(), |most| format!("{granted}{most:.1}"));
                (floor.shown(time), ours.shown(time), ratio, allowed)
            }
            Measure::Figure { values, most, unit, digits } => {
                let show = |value: f64| format!("{value:.digits$}{unit}");
                ("–".into(), values.shown(show), "–".into(), show(*most))
            }
        };
        let verdict = match self.verdict() {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Told => "–",
        };
        [self.what.clone(), floor, ours, ratio, allowed, verdict.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], most: Option<f64>, grace: f64) -> Row {
        let (floor, ours) = (ours.iter().map(|_| 1.0).collect(), ours.iter().copied().collect());
        Row { what: "it".into(), measure: Measure::Against { floor, ours, most, grace } }
    }

    #[test]
    fn median_decides_over_times() {
        assert_eq!(row(&[1.0, 2.0, 9.0], Some(2.0), 0.0).verdict(), Verdict::Met);
        assert_eq!(row(&[1.0, 2.1, 2.2], Some(2.0), 0.0).verdict(), Verdict::Missed);
        assert_eq!(row(&[9.0], None, 0.0).verdict(), Verdict::Told);
        assert_eq!(row(&[], Some(2.0), 0.0).verdict(), Verdict::Missed);
    }

    #[test]
    fn what_is_granted_is_no_ratio() {
        assert_eq!(row(&[11.5], Some(1.5), 10.0).verdict(), Verdict::Met);
        assert_eq!(row(&[11.6], Some(1.5), 10.0).verdict(), Verdict::Missed);
        let cells = row(&[11.5], Some(1.5), 10.0).cells();
        assert_eq!(cells, ["it", "1.00 s", "11.50 s", "TTL +1.50", "TTL +1.5", "met"]);
    }

    #[test]
    fn largest_decides_over_figures() {
        let figure = |values: &[f64], most| {
            let values = values.iter().copied().collect();
            Row { what: "it".into(), measure: Measure::Figure { values, most, unit: " MiB", digits: 1 } }
        };
        assert_eq!(figure(&[0.0, 0.0], 0.0).verdict(), Verdict::Met);
        assert_eq!(figure(&[0.0, 1.0], 0.0).verdict(), Verdict::Missed);
        assert_eq!(figure(&[], 5.0).verdict(), Verdict::Missed);
        assert_eq!(
            figure(&[4.0, 5.0, 6.0], 5.0).cells()[2..],
            ["5.0 MiB (4.0 MiB–6.0 MiB)", "–", "5.0 MiB", "**missed**"]
        );
    }

    #[test]
    fn half_measured_rows_are_not_whole() {
        assert!(row(&[1.0], None, 0.0).is_whole());
        assert!(!row(&[], None, 0.0).is_whole());
        let lame = Row::against("it", Series::default(), [1.0].into_iter().collect(), None);
        assert!(!lame.is_whole());
    }
}
