//! Units that must move together, in the order in which they can be placed.

use std::collections::BTreeMap;

/// `start` and everything it leads to, as groups: within a group each leads to each other (it is a cycle, or one
/// alone), and a group comes after all that it leads to. `next` must give each node's edges in a fixed order.
///
/// Tarjan's algorithm, without recursion: a chain of `MachineOf` may be as long as a cluster has units.
pub(super) fn groups<T: Copy + Ord>(start: T, next: impl Fn(T) -> Vec<T>) -> Vec<Vec<T>> {
    struct Visit {
        order: usize,
        /// The earliest visited node, not yet in a group, that this one is known to lead to.
        low: usize,
        grouped: bool,
    }
    let mut groups = Vec::new();
    let mut visits: BTreeMap<T, Visit> = BTreeMap::new();
    let mut open: Vec<T> = Vec::new();
    let mut path: Vec<(T, std::vec::IntoIter<T>)> = Vec::new();
    let mut enter = Some(start);
    loop {
        if let Some(node) = enter.take() {
            let order = visits.len();
            visits.insert(node, Visit { order, low: order, grouped: false });
            open.push(node);
            path.push((node, next(node).into_iter()));
        }
        let Some((node, edges)) = path.last_mut() else { return groups };
        let node = *node;
        if let Some(target) = edges.next() {
            match visits.get(&target) {
                None => enter = Some(target),
                Some(visit) if !visit.grouped => {
                    let order = visit.order;
                    visits.entry(node).and_modify(|visit| visit.low = visit.low.min(order));
                }
                Some(_) => {}
            }
            continue;
        }
        path.pop();
        let Visit { order, low, .. } = visits[&node];
        if let Some(&(parent, _)) = path.last() {
            visits.entry(parent).and_modify(|visit| visit.low = visit.low.min(low));
        }
        if low == order {
            let from = open.iter().rposition(|&member| member == node).unwrap_or_default();
            let group = open.split_off(from);
            for &member in &group {
                visits.entry(member).and_modify(|visit| visit.grouped = true);
            }
            groups.push(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(edges: &[(u32, u32)], start: u32) -> Vec<Vec<u32>> {
        let next = |node| edges.iter().filter(|(from, _)| *from == node).map(|(_, to)| *to).collect();
        let mut groups = groups(start, next);
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups
    }

    #[test]
    fn targets_come_first_and_cycles_are_one_group() {
        assert_eq!(sorted(&[], 1), [[1]]);
        assert_eq!(sorted(&[(1, 2), (2, 3)], 1), [[3], [2], [1]]);
        assert_eq!(sorted(&[(1, 2), (2, 1), (2, 3), (3, 4), (4, 3)], 1), [[3, 4], [1, 2]]);
        assert_eq!(sorted(&[(1, 2), (1, 3), (2, 4), (3, 4)], 1), [[4], [2], [3], [1]]);
        assert_eq!(sorted(&[(1, 2), (2, 3), (3, 1), (3, 2), (9, 1)], 1), [[1, 2, 3]]);
    }

    #[test]
    fn long_chains_need_no_stack() {
        assert_eq!(groups(0_u32, |node| if node < 200_000 { vec![node + 1] } else { vec![] }).len(), 200_001);
    }
}
