//! Pairs the entries of two sorted sequences, for comparisons of two trees and of two listings.

use std::cmp::Ordering;

/// An entry of one sequence, or two equal entries of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair<T> {
    /// An entry of the first sequence alone.
    First(T),
    /// An entry of the second sequence alone.
    Second(T),
    /// An entry of each.
    Both(T, T),
}

/// Pairs two sequences that are sorted by `order`, and returns the pairs in that order.
pub fn pairs<T>(
    first: impl Iterator<Item = T>,
    second: impl Iterator<Item = T>,
    order: impl Fn(&T, &T) -> Ordering,
) -> impl Iterator<Item = Pair<T>> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || {
        let order = match (first.peek(), second.peek()) {
            (Some(one), Some(other)) => order(one, other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => first.next().map(Pair::First),
            Ordering::Equal => Some(Pair::Both(first.next()?, second.next()?)),
            Ordering::Greater => second.next().map(Pair::Second),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_entry_of_both_is_in_one_pair_in_order(
            one in prop::collection::btree_set(0..50_u8, 0..30), other in prop::collection::btree_set(0..50_u8, 0..30)
        ) {
            let found: Vec<_> = pairs(one.iter(), other.iter(), |one, other| one.cmp(other)).collect();
            let all: BTreeSet<u8> = one.union(&other).copied().collect();
            let expected = all.iter().map(|entry| match (one.get(entry), other.get(entry)) {
                (Some(one), Some(other)) => Pair::Both(one, other),
                (Some(one), None) => Pair::First(one),
                _ => Pair::Second(entry),
            });
            prop_assert!(found.into_iter().eq(expected));
        }
    }
}
