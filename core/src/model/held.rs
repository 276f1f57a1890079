//! What the engine holds back, and until when.

use serde::{Deserialize, Serialize};

use super::{MachineId, Unknown, record::record};
use crate::unit::UnitName;

/// What the leading engine holds back: the value of `engine/held`, which exists only while there is something.
/// Times are as in RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// Machines that vanished and whose units stay where they are for now.
    #[serde(default)]
    pub machines: Vec<HeldMachineRecord>,
    /// Units that stay on a machine that is gone until they are down there for certain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<HeldUnitRecord>,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// A machine that vanished and may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMachineRecord {
    /// The machine.
    pub id: MachineId,
    /// When it was found gone.
    pub since: String,
    /// When its units move if nothing else happens; absent while nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, in words.
    pub reason: String,
}

/// A unit that may still run on a machine that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUnitRecord {
    /// The unit.
    pub name: UnitName,
    /// The machine.
    pub machine: MachineId,
    /// When the machine was found gone; absent from an engine that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it is down for certain; absent when that is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A moment, in seconds since 1970, as in RFC 3339.
#[must_use]
pub fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their odd day last; 719,468 days before 1970 one of 400 of them begins.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

record!(HeldRecord: version 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    #[test]
    fn moments_are_written_as_in_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_251_043, "2026-11-21T08:50:43Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }

    #[test]
    fn record_reads_back() {
        let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
        let record = HeldRecord {
            machines: vec![HeldMachineRecord {
                id: machine.clone(),
                since: timestamp(0),
                until: None,
                reason: "etcd was slow".into(),
            }],
            units: vec![HeldUnitRecord {
                name: UnitName::new("a.service").unwrap(),
                machine,
                since: Some(timestamp(60)),
                until: Some(timestamp(90)),
            }],
            ..HeldRecord::default()
        };
        assert_eq!(HeldRecord::decode(&record.encode()).unwrap(), record);
    }
}
