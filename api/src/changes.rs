//! Changes of many units in one request.

use serde::{Deserialize, Serialize};

use crate::{Reason, UnitOption};

/// Added: the body of `POST /fleet/v1/changes`: changes of many units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Changes {
    /// The changes, of each unit one at most.
    pub changes: Vec<Change>,
}

/// What a `PUT` or a `DELETE` of one unit would say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Change {
    /// The unit.
    pub name: String,
    /// The desired state: `inactive`, `loaded` or `launched`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub desired_state: String,
    /// Its contents, in order; none leave them as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<UnitOption>,
    /// What is to be done even if the unit has that desired state already.
    #[serde(skip_serializing_if = "Again::is_no")]
    pub again: Again,
    /// The unit is to be forgotten.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub destroy: bool,
}

/// What a request asks for even if the unit has the desired state already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Again {
    /// Nothing.
    #[default]
    No,
    /// What is launched and does not run is started, what is loaded and runs is stopped.
    Ensure,
    /// The unit is run anew, also if it had another desired state for a moment.
    Restart,
}

impl Again {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// The answer: how each change went, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangesMade {
    /// The outcomes.
    pub results: Vec<ChangeMade>,
}

/// How one change went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeMade {
    /// The unit.
    pub name: String,
    /// The HTTP status that the same would have had alone.
    pub code: u16,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why, as a word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}
