//! Which of the last numbers were given to packets that went out.
//!
//! An SRTP index must not be used for two packets (RFC 3711 §9.1; under GCM a second one gives the authentication key
//! away), so a number is given out once, whatever a publisher repeats.

/// Numbers remembered: seconds of video. Older ones count as used.
const LEN: u64 = 1024;

#[derive(Clone, Debug)]
pub struct SentWindow {
    /// One above the highest number that was used.
    end: u64,
    bits: [u64; (LEN / 64) as usize],
}

impl SentWindow {
    pub fn new(first: u64) -> SentWindow {
        SentWindow { end: first, bits: [0; (LEN / 64) as usize] }
    }

    /// Uses a number; false when it was used before, or is too old to tell.
    pub fn insert(&mut self, number: u64) -> bool {
        if number >= self.end {
            if number - self.end >= LEN {
                self.bits = [0; (LEN / 64) as usize];
            } else {
                for passed in self.end..number {
                    self.bits[word(passed)] &= !bit(passed);
                }
            }
            self.bits[word(number)] |= bit(number);
            self.end = number + 1;
            return true;
        }
        if self.end - number > LEN || self.bits[word(number)] & bit(number) != 0 {
            return false;
        }
        self.bits[word(number)] |= bit(number);
        true
    }
}

fn word(number: u64) -> usize {
    (number % LEN / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_edge_of_the_window() {
        let mut window = SentWindow::new(5);
        assert!(window.insert(5) && !window.insert(5));
        assert!(window.insert(5 + LEN));
        assert!(!window.insert(5), "too old to tell");
        assert!(window.insert(6) && !window.insert(6));
        assert!(window.insert(6 + 3 * LEN));
        assert!(window.insert(7 + 2 * LEN));
    }

    proptest! {
        #[test]
        fn no_number_is_used_twice(steps in proptest::collection::vec((0u64..2000, 0u64..1200), 1..300)) {
            let mut window = SentWindow::new(0);
            let mut used = std::collections::BTreeSet::new();
            let mut highest = 0u64;
            for (forward, back) in steps {
                let number = (highest + forward % 30 * (forward / 1900 * 100 + 1)).saturating_sub(back % 1100);
                let is_new = window.insert(number);
                // Within the window it knows exactly.
                if is_new || highest.saturating_sub(number) < LEN {
                    prop_assert_eq!(used.insert(number), is_new);
                }
                if is_new {
                    highest = highest.max(number);
                }
            }
        }
    }
}
