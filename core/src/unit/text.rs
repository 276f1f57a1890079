//! Finding the word a person meant.

/// The known word nearest to `word`, when it is near enough to be a slip of the finger.
///
/// Comparison ignores case. The distance is Damerau-Levenshtein; up to a third of the word may differ.
#[must_use]
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::suggest;

    const KEYS: [&str; 3] = ["Conflicts", "MachineOf", "MachineMetadata"];

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        assert_eq!(suggest("Conflict", KEYS), Some("Conflicts"));
        assert_eq!(suggest("machineof", KEYS), Some("MachineOf"));
        assert_eq!(suggest("MachineMetdata", KEYS), Some("MachineMetadata"));
        assert_eq!(suggest("Bogus", KEYS), None);
    }
}
