//! What an agent has put in place of a unit.

use serde::{Deserialize, Serialize};

use super::assignment::Wanted;
use crate::{model::Target, unit::UnitHash};

/// What the agent has put in place of a unit, as its manifest on disk remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The contents of the file on this host.
    pub hash: UnitHash,
    /// How far the agent brought it.
    pub applied: Target,
    /// The generation it carried out; `None` when that is not known any more, which counts as carried out.
    pub generation: Option<u64>,
    /// The request it carried out; `None` when that is not known any more, which counts as carried out.
    #[serde(default)]
    pub request: Option<u64>,
    /// For that, it was started or stopped, not found as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// The agent asked for it to be stopped, so that it is down, or will be, not by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// It has ended as it should and is not to run again, as a oneshot does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// Systemd does not find its file: it has to be put in place again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

impl Installed {
    /// A unit whose file has just been put in place.
    #[must_use]
    pub fn loaded(hash: UnitHash, generation: Option<u64>) -> Self {
        Self {
            hash,
            applied: Target::Loaded,
            generation,
            request: None,
            acted: false,
            stopping: false,
            finished: false,
            lost: false,
        }
    }

    /// What is wanted when nothing is to change.
    #[must_use]
    pub fn as_wanted(&self) -> Wanted {
        Wanted { hash: self.hash, target: self.effective(), generation: self.generation, request: self.request }
    }

    /// Takes note that the unit was started, or restarted, as it is wanted.
    pub fn launched(&mut self, wanted: &Wanted) {
        self.applied = Target::Launched;
        self.carried_out(wanted);
        (self.acted, self.stopping, self.finished) = (true, false, false);
    }

    /// Takes note that the unit is as it is wanted, and needs no step.
    pub fn settled(&mut self, wanted: &Wanted) {
        self.applied = wanted.target;
        self.carried_out(wanted);
        self.acted = std::mem::take(&mut self.stopping);
        self.finished &= wanted.target == Target::Launched;
    }

    fn carried_out(&mut self, wanted: &Wanted) {
        self.generation = wanted.generation.or(self.generation);
        self.request = wanted.request.or(self.request);
    }

    /// How far it is still brought.
    pub(super) fn effective(&self) -> Target {
        if self.stopping { Target::Loaded } else { self.applied }
    }
}
