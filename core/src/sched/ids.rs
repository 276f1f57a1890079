//! The IDs of machines as numbers, which are quicker to compare than their text and in the same order.

use std::ops::RangeInclusive;

use crate::model::MachineId;

/// An ID as a number.
pub(super) fn number(id: &MachineId) -> u128 {
    *beginning_with(id.as_str()).expect("an ID is 32 hexadecimal digits").start()
}

/// All that IDs may be that begin with these digits; `None` when no ID does.
pub(super) fn beginning_with(digits: &str) -> Option<RangeInclusive<u128>> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(is_digit) {
        return None;
    }
    let open = 4 * (32 - digits.len());
    let first = u128::from_str_radix(digits, 16).ok()? << open;
    Some(first..=first | ((1 << open) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_order_of_ids_and_found_by_their_beginning() {
        let id = |text: &str| number(&MachineId::new(text).unwrap());
        let ids = [
            "0f97a72e4aef45bf815b90988acdbf13",
            "0f97a72e4aef45bf915b90988acdbf13",
            "d097a72e4aef45bf815b90988acdbf13",
        ];
        assert!(ids.map(id).is_sorted());
        let beginning = beginning_with("0f97a72e").unwrap();
        assert_eq!(ids.map(|text| beginning.contains(&id(text))), [true, true, false]);
        assert_eq!(beginning_with(ids[0]).unwrap(), id(ids[0])..=id(ids[0]));
        assert_eq!(["", "0F97A72E", "+0f97a72", &"0".repeat(33)].map(beginning_with), [None, None, None, None]);
    }
}
