//! For what the events of a batch were refused, counted. Pure. Comes in: a cause of each refusal, in words that stay the
//! same from answer to answer. Goes out: whether two batches were refused alike. Never judges one batch.

use std::collections::BTreeMap;

/// Refusals by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Causes(BTreeMap<String, usize>);

impl Causes {
    /// So many events more were refused for it.
    pub fn add(&mut self, cause: &str, events: usize) {
        match self.0.get_mut(cause) {
            Some(count) => *count += events,
            None => _ = self.0.insert(cause.to_owned(), events),
        }
    }

    pub fn join(&mut self, other: &Causes) {
        other.0.iter().for_each(|(cause, events)| self.add(cause, *events));
    }

    /// Events refused.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Whether at least a quarter of the refusals of both are for the same: not the commonest or the last cause, since
    /// where a receiver has several objections to everything, either changes from batch to batch.
    pub fn are_alike(&self, other: &Causes) -> bool {
        // Shares over a common denominator.
        let (all, others) = (self.total(), other.total());
        let shared = self.0.iter().map(|(cause, events)| {
            let theirs = other.0.get(cause).copied().unwrap_or_default();
            (events * others).min(theirs * all)
        });
        all > 0 && others > 0 && shared.sum::<usize>() * 4 >= all * others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(of: &[(&str, usize)]) -> Causes {
        let mut causes = Causes::default();
        of.iter().for_each(|(cause, events)| causes.add(cause, *events));
        causes
    }

    #[test]
    fn what_two_batches_share_makes_them_alike_and_not_what_came_last() {
        let alike: [(&[_], &[_]); 5] = [
            (&[("a", 11)], &[("a", 1)]),
            (&[("a", 11), ("b", 9)], &[("a", 9), ("b", 11)]),
            (&[("a", 60), ("b", 40)], &[("b", 100)]),
            (&[("a", 4), ("b", 4), ("c", 4), ("d", 4), ("e", 4)], &[("e", 5), ("d", 5), ("c", 5), ("b", 5)]),
            (&[("a", 3), ("b", 1)], &[("b", 9), ("c", 3)]),
        ];
        for (one, other) in alike {
            assert!(
                causes(one).are_alike(&causes(other)) && causes(other).are_alike(&causes(one)),
                "{one:?} {other:?}"
            );
        }
        let unlike: [(&[_], &[_]); 4] =
            [(&[], &[]), (&[("a", 1)], &[]), (&[("a", 20)], &[("b", 20)]), (&[("a", 19), ("b", 1)], &[("b", 20)])];
        for (one, other) in unlike {
            assert!(
                !causes(one).are_alike(&causes(other)) && !causes(other).are_alike(&causes(one)),
                "{one:?} {other:?}"
            );
        }
    }
}
