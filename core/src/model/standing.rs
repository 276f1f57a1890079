//! How a unit stands on its machine, compared with what is wanted of it.

use super::{ActiveState, Desired, StateRecord, timestamp};

/// How a unit stands, as its agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to run and runs, or is to be there and is.
    AsWanted,
    /// Its agent or systemd is at it.
    OnItsWay,
    /// It has ended as it should, and is not to run again.
    Finished,
    /// It does not run because of a condition of its own.
    Skipped,
    /// It is wanted and does not run, or cannot even be put in place.
    Off,
}

impl Standing {
    /// Judges a report by what is wanted.
    #[must_use]
    pub fn of(desired: Desired, state: &StateRecord) -> Self {
        if desired == Desired::Inactive {
            return Self::OnItsWay;
        }
        if state.problem.is_some() {
            return Self::Off;
        }
        if state.current != desired || state.job {
            return Self::OnItsWay;
        }
        if !["loaded", ""].contains(&&*state.load) {
            return Self::Off;
        }
        if desired == Desired::Loaded {
            return Self::AsWanted;
        }
        match state.active {
            ActiveState::Active | ActiveState::Reloading | ActiveState::Refreshing => Self::AsWanted,
            ActiveState::Activating if state.sub.starts_with("auto-restart") => Self::Off,
            ActiveState::Activating | ActiveState::Deactivating | ActiveState::Maintenance => Self::OnItsWay,
            ActiveState::Inactive if state.finished => Self::Finished,
            ActiveState::Inactive if state.skipped => Self::Skipped,
            ActiveState::Inactive | ActiveState::Failed | ActiveState::Other(_) => Self::Off,
        }
    }
}

impl StateRecord {
    /// How the unit is on its machine, in words that go on from its name.
    #[must_use]
    pub fn words(&self) -> String {
        let since = match self.since {
            0 => String::new(),
            since => format!(" since {}", timestamp(since)),
        };
        let why = self.problem.as_ref().or(self.notice.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
        let load = match &*self.load {
            "loaded" | "" => String::new(),
            load => format!(", load state {load}"),
        };
        let how = if self.finished { "has finished, " } else { "" };
        format!("{how}{} ({}){load}{since}{why}", self.active, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Unknown, unit::UnitHash};

    /// `CURRENT ACTIVE SUB`.
    fn state(text: &str) -> StateRecord {
        let mut parts = text.split(' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        StateRecord {
            current: part().parse().unwrap(),
            active: part().into(),
            sub: part(),
            hash: UnitHash::of(""),
            load: "loaded".into(),
            generation: 0,
            request: None,
            acted: false,
            finished: false,
            skipped: false,
            job: false,
            since: 0,
            problem: None,
            notice: None,
            released: None,
            start: None,
            unknown: Unknown::default(),
        }
    }

    #[test]
    fn a_unit_is_judged_by_what_is_wanted_of_it() {
        use Desired::{Launched, Loaded};
        for (desired, report, standing) in [
            (Launched, "launched active running", Standing::AsWanted),
            (Launched, "launched reloading reload", Standing::AsWanted),
            (Launched, "launched activating start-pre", Standing::OnItsWay),
            (Launched, "launched deactivating stop", Standing::OnItsWay),
            (Launched, "loaded inactive dead", Standing::OnItsWay),
            (Launched, "launched activating auto-restart", Standing::Off),
            (Launched, "launched failed failed", Standing::Off),
            (Launched, "launched inactive dead", Standing::Off),
            (Loaded, "loaded inactive dead", Standing::AsWanted),
            (Loaded, "loaded active running", Standing::AsWanted),
            (Loaded, "launched active running", Standing::OnItsWay),
        ] {
            assert_eq!(Standing::of(desired, &state(report)), standing, "{desired} {report}");
        }
        let dead = state("launched inactive dead");
        let finished = StateRecord { finished: true, ..dead.clone() };
        assert_eq!(Standing::of(Launched, &finished), Standing::Finished);
        let skipped = StateRecord { skipped: true, ..dead.clone() };
        assert_eq!(Standing::of(Launched, &skipped), Standing::Skipped);
        let refused = StateRecord { problem: Some("no".into()), ..state("loaded inactive dead") };
        assert_eq!(Standing::of(Launched, &refused), Standing::Off);
        let broken = StateRecord { load: "bad-setting".into(), ..state("loaded inactive dead") };
        assert_eq!(Standing::of(Loaded, &broken), Standing::Off);
    }

    #[test]
    fn its_words_name_state_time_and_cause() {
        let refused = StateRecord { since: 90, problem: Some("no".into()), ..state("loaded inactive dead") };
        assert_eq!(refused.words(), "inactive (dead) since 1970-01-01T00:01:30Z: no");
        let once = StateRecord { finished: true, ..state("launched inactive dead") };
        assert_eq!(once.words(), "has finished, inactive (dead)");
    }
}
