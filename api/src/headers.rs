//! Headers of answers that say more than their bodies. In lower case, as HTTP libraries want names.

/// On an answer from memory while etcd is out of reach: how many seconds ago it was true.
pub const AGE: &str = "fleet-age";
/// On the answer to a change: when it was received, by fleetd's clock of traces, in microseconds.
pub const RECEIVED: &str = "fleet-received";
/// On the answer to a change: when what it wants had been compared with what was there, by the same clock.
pub const CHECKED: &str = "fleet-checked";
