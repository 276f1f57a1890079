//! The paths of the resources, for the route table of fleetd and for clients.
//!
//! Each constant is the pattern of a path below [`PREFIX`]; [`of`] puts a name in the place of its braces.

/// Every path of version 1 begins with this.
pub const PREFIX: &str = "/fleet/v1";
/// What version 1 was called before; the same resources are there.
pub const OLD_PREFIX: &str = "/v1-alpha";

/// All machines, and their metadata.
pub const MACHINES: &str = "/machines";
/// Whether a machine is to be emptied, and how far that is.
pub const DRAIN: &str = "/machines/{id}/drain";
/// That a machine is gone for good.
pub const EVICT: &str = "/machines/{id}/evict";
/// All units.
pub const UNITS: &str = "/units";
/// One unit.
pub const UNIT: &str = "/units/{name}";
/// One restart of a unit.
pub const RESTART: &str = "/units/{name}/restart";
/// Where a unit runs or could run.
pub const WHY: &str = "/units/{name}/why";
/// When the last start of a unit went through the cluster.
pub const TRACE: &str = "/units/{name}/trace";
/// The states of all units.
pub const STATES: &str = "/state";
/// The state of one unit.
pub const STATE: &str = "/state/{name}";
/// Changes of many units in one request.
pub const CHANGES: &str = "/changes";
/// The units that should run and do not.
pub const FAILED: &str = "/failed";
/// What the engine holds back.
pub const HELD: &str = "/held";
/// How units stand, without end.
pub const WATCH: &str = "/watch";
/// The version of fleetd and what it can do.
pub const VERSION: &str = "/version";
/// The description of CoreOS fleet's part.
pub const DISCOVERY: &str = "/discovery";

/// The path of the resource of one name.
#[must_use]
pub fn of(pattern: &str, name: &str) -> String {
    match (pattern.split_once('{'), pattern.split_once('}')) {
        (Some((before, _)), Some((_, after))) => format!("{before}{}{after}", escape(name)),
        _ => pattern.into(),
    }
}

/// A path with a query of names and values, if there are any.
#[must_use]
pub fn query<'q>(path: &str, pairs: impl IntoIterator<Item = (&'q str, &'q str)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    if pairs.is_empty() { path.into() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encodes what cannot stand in a path segment or a query value. `@` and `:` can, and keep names readable.
fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~@:".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_paths_as_one_segment() {
        for (pattern, name, path) in [
            (UNIT, "web@1.service", "/units/web@1.service"),
            (WHY, r"dev-a\x2d.device", "/units/dev-a%5Cx2d.device/why"),
            (DRAIN, "a/b?c", "/machines/a%2Fb%3Fc/drain"),
            (UNIT, "{name}", "/units/%7Bname%7D"),
            (UNITS, "none", "/units"),
        ] {
            assert_eq!(of(pattern, name), path);
        }
    }

    #[test]
    fn queries_are_escaped_and_none_has_no_mark() {
        assert_eq!(query(WATCH, [("unit", "a.service"), ("unit", "b&c")]), "/watch?unit=a.service&unit=b%26c");
        assert_eq!(query(UNITS, [("nextPageToken", "ZA==")]), "/units?nextPageToken=ZA%3D%3D");
        assert_eq!(query(UNITS, []), UNITS);
    }
}
