use std::ops::RangeInclusive;

use datapath::Entropy;

/// What EVEN-PORT asks of a port (RFC 8656 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    Any,
    Even,
    /// Even, and the next higher port is free too.
    EvenWithNext,
}

/// This worker's part of the range: pairs of an even and the next odd port stay together, and every port belongs to
/// one worker. Panics unless `worker < workers`.
pub fn partition(range: RangeInclusive<u16>, worker: u16, workers: u16) -> RangeInclusive<u16> {
    assert!(worker < workers);
    let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
    let size = (last + 1).saturating_sub(first);
    let bound = |index: u32| {
        if index == u32::from(workers) {
            return last + 1;
        }
        let bound = first + size * index / u32::from(workers);
        if index == 0 { bound } else { bound & !1 }
    };
    let (start, end) = (bound(u32::from(worker)), bound(u32::from(worker) + 1));
    if end <= start || start > 0xFFFF {
        // Fewer ports than workers: an empty range.
        #[expect(clippy::reversed_empty_ranges, reason = "it is meant to be empty")]
        return 1..=0;
    }
    start as u16..=(end - 1) as u16
}

/// A port that is free and of this parity, as random as the free ones are (RFC 8656 §7.2 wants it hard to guess).
pub fn choose(
    range: &RangeInclusive<u16>,
    parity: Parity,
    entropy: &mut Entropy,
    is_free: impl Fn(u16) -> bool,
) -> Option<u16> {
    let fits = |port: u16| {
        is_free(port)
            && match parity {
                Parity::Any => true,
                Parity::Even => port.is_multiple_of(2),
                Parity::EvenWithNext => port.is_multiple_of(2) && range.contains(&(port + 1)) && is_free(port + 1),
            }
    };
    let size = u64::try_from(range.len()).expect("a range of ports is small");
    if size == 0 {
        return None;
    }
    let at = |offset: u64| range.start() + (offset % size) as u16;
    for _ in 0..16 {
        let port = at(entropy.below(size));
        if fits(port) {
            return Some(port);
        }
    }
    let start = entropy.below(size);
    (0..size).map(|step| at(start + step)).find(|&port| fits(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cover_the_range_once_and_keep_pairs() {
        for (range, workers) in [(49152..=65535, 1), (49152..=65535, 3), (50001..=50010, 4), (50000..=50002, 8)] {
            let mut covered = Vec::new();
            for worker in 0..workers {
                let part = partition(range.clone(), worker, workers);
                if !part.is_empty() && worker > 0 {
                    assert!(part.start().is_multiple_of(2), "{part:?}");
                }
                covered.extend(part);
            }
            assert_eq!(covered, range.collect::<Vec<u16>>());
        }
    }

    #[test]
    fn the_last_free_port_is_found() {
        let mut entropy = Entropy::from_seed([1; 32]);
        let range = 50_000..=65_535;
        assert_eq!(choose(&range, Parity::Any, &mut entropy, |port| port == 61_001), Some(61_001));
        assert_eq!(choose(&range, Parity::Even, &mut entropy, |port| port == 61_001), None);
        assert_eq!(choose(&range, Parity::EvenWithNext, &mut entropy, |port| port >= 65_533), Some(65_534));
        assert_eq!(choose(&range, Parity::EvenWithNext, &mut entropy, |port| port == 65_534), None);
        assert_eq!(choose(&(50_000..=50_000), Parity::EvenWithNext, &mut entropy, |_| true), None);
    }
}
