//! Errors: a status, a message for people, and a reason for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntity {
    /// The error.
    pub error: ErrorBody,
}

/// An error: the HTTP status again, and what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status.
    pub code: u16,
    /// What went wrong, in words.
    pub message: String,
    /// Added: what went wrong, as a word that programs can act on; absent from a fleetd that has none for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What went wrong, as a word. Words are added and never change their meaning.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// The word of another version of fleet, as it is.
            Other(String),
        }

        impl Reason {
            /// All that this version knows.
            pub const KNOWN: &[Self] = &[$(Self::$variant),*];

            /// The word.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for Reason {
            fn from(word: String) -> Self {
                match &*word {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }
    };
}

reasons! {
    /// There is no such path. From a fleetd that has reasons it means that this one has not got the resource.
    NoSuchResource = "no-such-resource",
    /// The resource is there, and knows no such method.
    MethodNotAllowed = "method-not-allowed",
    /// Who asks may not.
    NotAllowed = "not-allowed",
    /// The request makes no sense, whatever is in the cluster.
    InvalidRequest = "invalid-request",
    /// The body is of another type than JSON.
    UnsupportedMediaType = "unsupported-media-type",
    /// The body, or what would be stored of it, is too large.
    TooLarge = "too-large",
    /// The page token is not one that was given out: begin with the first page.
    InvalidPageToken = "invalid-page-token",
    /// The unit's name or contents are refused: somebody has to mend its file.
    InvalidUnit = "invalid-unit",
    /// The unit is a template, which cannot be on a machine.
    IsTemplate = "is-template",
    /// The unit is not known, and the request does not bring its contents.
    UnitNotFound = "unit-not-found",
    /// The unit is known already, and the request does not give a desired state.
    UnitExists = "unit-exists",
    /// No machine reports the unit.
    StateNotFound = "state-not-found",
    /// The unit is not launched, and only what is launched restarts.
    NotLaunched = "not-launched",
    /// The unit is not global, and only global units restart on one machine after the other.
    NotGlobal = "not-global",
    /// The unit is global, and has no single answer to this.
    IsGlobal = "is-global",
    /// No start of the unit as it is desired now has been reported: ask again later.
    NotStarted = "not-started",
    /// The machine is not known.
    MachineNotFound = "machine-not-found",
    /// The machine is alive, and only one that is not can be given up.
    MachineAlive = "machine-alive",
    /// Others changed the same at the same time: read again, and decide anew.
    ChangedMeanwhile = "changed-meanwhile",
    /// What is stored was written by a newer fleet, and is left as it is: ask a newer fleetd.
    NewerSchema = "newer-schema",
    /// Etcd is out of reach: try again.
    NoEtcd = "no-etcd",
    /// This fleetd must not serve its cluster, say because another host has its machine ID: ask another.
    NotServing = "not-serving",
    /// Something failed that should not have.
    Internal = "internal",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Other(word) => word,
            known => known.as_str().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_its_word_and_one_of_another_version_is_kept() {
        for reason in Reason::KNOWN {
            let word = serde_json::to_string(reason).unwrap();
            assert_eq!(word, format!("{:?}", reason.as_str()));
            assert_eq!(&serde_json::from_str::<Reason>(&word).unwrap(), reason);
        }
        let newer: Reason = serde_json::from_str("\"of-tomorrow\"").unwrap();
        assert_eq!(newer, Reason::Other("of-tomorrow".into()));
        assert_eq!(serde_json::to_string(&newer).unwrap(), "\"of-tomorrow\"");
    }

    #[test]
    fn an_error_without_a_reason_is_that_of_coreos_fleet() {
        let text = r#"{"error":{"code":404,"message":"unit does not exist"}}"#;
        let error: ErrorEntity = serde_json::from_str(text).unwrap();
        assert_eq!(error.error.reason, None);
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
    }
}
