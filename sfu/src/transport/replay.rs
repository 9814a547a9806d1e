//! The SRTP packet index and its replay window (RFC 3711 §3.3.1, §3.3.2, Appendix A).

/// Packets this far behind the newest are refused. Retransmissions and jitter stay far below it; RFC 3711 asks for 64
/// at least.
pub const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// What was received of one synchronisation source.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    started: bool,
    /// Bit `i % WINDOW` tells whether index `i` was seen, for the `WINDOW` indices up to `highest`.
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> ReplayWindow {
        ReplayWindow { highest: 0, started: false, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Everything up to `highest` counts as seen.
    pub fn after(highest: u64) -> ReplayWindow {
        ReplayWindow { highest, started: true, seen: [u64::MAX; WORDS] }
    }

    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// RFC 3711 Appendix A: the 48-bit index that a 16-bit sequence number most likely stands for.
    pub fn guess_index(&self, sequence: u16) -> u64 {
        if !self.started {
            return u64::from(sequence);
        }
        let rollover = self.highest >> 16;
        let newest = self.highest as u16;
        let rollover = if newest < 0x8000 {
            // Before the first rollover there is no earlier one.
            let earlier = i32::from(sequence) - i32::from(newest) > 0x8000;
            if earlier { rollover.saturating_sub(1) } else { rollover }
        } else {
            let later = i32::from(newest) - 0x8000 > i32::from(sequence);
            if later { rollover + 1 } else { rollover }
        };
        rollover << 16 | u64::from(sequence)
    }

    /// Whether the index may still be accepted: not seen, and not too old.
    pub fn is_fresh(&self, index: u64) -> bool {
        if !self.started || index > self.highest {
            return true;
        }
        if self.highest - index >= WINDOW {
            return false;
        }
        let bit = index % WINDOW;
        self.seen[(bit / 64) as usize] & 1 << (bit % 64) == 0
    }

    /// Marks an index whose packet has been authenticated.
    pub fn accept(&mut self, index: u64) {
        if !self.started {
            self.started = true;
            self.highest = index;
        } else if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    let bit = skipped % WINDOW;
                    self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
                }
            }
            self.highest = index;
        }
        let bit = index % WINDOW;
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_copy_is_refused() {
        let mut window = ReplayWindow::default();
        for index in [10, 12, 11, 2000, 1500] {
            assert!(window.is_fresh(index), "{index}");
            window.accept(index);
            assert!(!window.is_fresh(index), "{index}");
        }
        assert!(!window.is_fresh(2000 - WINDOW), "too old");
        assert!(window.is_fresh(2000 - WINDOW + 1));
        assert!(window.is_fresh(1999));
    }

    #[test]
    fn an_old_slot_is_free_again_after_the_window_has_moved() {
        let mut window = ReplayWindow::default();
        window.accept(5);
        window.accept(5 + WINDOW);
        assert!(window.is_fresh(6 + WINDOW));
        assert!(window.is_fresh(4 + WINDOW));
    }

    #[test]
    fn the_index_follows_the_sequence_number_over_its_wrap() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.guess_index(65_530), 65_530);
        window.accept(65_530);
        assert_eq!(window.guess_index(3), 65_536 + 3);
        window.accept(65_536 + 3);
        assert_eq!(window.guess_index(65_535), 65_535);
        assert_eq!(window.guess_index(4), 65_536 + 4);
    }

    #[test]
    fn a_late_packet_from_before_the_first_wrap_does_not_underflow() {
        let mut window = ReplayWindow::default();
        window.accept(2);
        assert_eq!(window.guess_index(65_535), 65_535);
    }
}
