//! The specifiers that fleet itself replaces in `[X-Fleet]` values. All others are systemd's, on the host.

use super::UnitName;

/// Replaces `%n` (full name), `%N` (name without suffix), `%p` (prefix) and `%i` (instance) in `value`.
///
/// Anything else after a `%` stays as it is; there is no `%%`, as in CoreOS fleet.
#[must_use]
pub fn expand(value: &str, name: &UnitName) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let replaced = match rest[at + 1..].chars().next() {
            Some('n') => Some(name.as_str()),
            Some('N') => Some(name.stem()),
            Some('p') => Some(name.prefix()),
            Some('i') => Some(name.instance().unwrap_or_default()),
            _ => None,
        };
        match replaced {
            Some(text) => {
                out.push_str(text);
                rest = &rest[at + 2..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_specifiers_are_replaced_and_others_stay() {
        let name = UnitName::new("web@eu-1.service").unwrap();
        assert_eq!(
            expand("%p@*.service db-%i.service %n %N", &name),
            "web@*.service db-eu-1.service web@eu-1.service web@eu-1"
        );
        assert_eq!(expand("100%% %H %", &name), "100%% %H %");
        assert_eq!(expand("[%i]", &UnitName::new("plain.timer").unwrap()), "[]");
    }
}
