//! What is remembered of the synchronisation sources of one direction: which packets came, for RFC 3711 §3.3.

use std::collections::VecDeque;

use super::replay::ReplayWindow;

/// A participant cannot make us remember more synchronisation sources than this (3 layers, their RTX, a few sections).
/// One more, authenticated, takes the place of the one unused for longest: a camera that is published again and again
/// brings new sources each time.
const SOURCES: usize = 128;
/// Of so many that were displaced the last index is known: a camera that was muted meanwhile goes on with its rollover
/// counter, and what it sent before is not taken for new.
const DISPLACED: usize = 1024;

struct Source {
    ssrc: u32,
    /// The value of [`Sources::accepted`] at its last packet.
    used: u64,
    window: ReplayWindow,
}

/// A participant has a few, so a scan beats a map.
#[derive(Default)]
pub struct Sources {
    list: Vec<Source>,
    /// SSRC and highest index, the latest last.
    displaced: VecDeque<(u32, u64)>,
    /// Packets accepted so far: the clock of "unused for longest".
    accepted: u64,
}

/// Where a source is remembered.
pub enum Place {
    Listed(usize),
    /// New, or displaced.
    Elsewhere(ReplayWindow),
}

impl Sources {
    pub fn find(&self, ssrc: u32) -> Place {
        if let Some(at) = self.list.iter().position(|source| source.ssrc == ssrc) {
            return Place::Listed(at);
        }
        let displaced = self.displaced.iter().find(|(known, _)| *known == ssrc);
        Place::Elsewhere(displaced.map_or_else(ReplayWindow::default, |(_, highest)| ReplayWindow::after(*highest)))
    }

    fn window<'a>(&'a self, place: &'a Place) -> &'a ReplayWindow {
        match place {
            Place::Listed(at) => &self.list[*at].window,
            Place::Elsewhere(window) => window,
        }
    }

    /// The 48-bit index that a sequence number most likely stands for.
    pub fn guess_index(&self, place: &Place, sequence: u16) -> u64 {
        self.window(place).guess_index(sequence)
    }

    pub fn is_fresh(&self, place: &Place, index: u64) -> bool {
        self.window(place).is_fresh(index)
    }

    /// Marks a packet that has been authenticated.
    pub fn accept(&mut self, place: Place, ssrc: u32, index: u64) {
        self.accepted += 1;
        let used = self.accepted;
        let mut window = match place {
            Place::Listed(at) => {
                let source = &mut self.list[at];
                source.used = used;
                source.window.accept(index);
                return;
            }
            Place::Elsewhere(window) => window,
        };
        window.accept(index);
        self.displaced.retain(|(known, _)| *known != ssrc);
        if self.list.len() >= SOURCES {
            self.displace();
        }
        self.list.push(Source { ssrc, used, window });
    }

    fn displace(&mut self) {
        let oldest = (0..self.list.len()).min_by_key(|&at| self.list[at].used).expect("SOURCES > 0");
        let Source { ssrc, window, .. } = self.list.swap_remove(oldest);
        if self.displaced.len() >= DISPLACED {
            self.displaced.pop_front();
        }
        self.displaced.push_back((ssrc, window.highest()));
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_bounded_and_the_one_in_use_stays() {
        let mut sources = Sources::default();
        let mut accept = |ssrc: u32, index: u64| {
            let place = sources.find(ssrc);
            assert!(sources.is_fresh(&place, index));
            sources.accept(place, ssrc, index);
            assert!(sources.list.len() <= SOURCES && sources.displaced.len() <= DISPLACED);
            assert!(matches!(sources.find(0), Place::Listed(_)));
        };
        for round in 0..3 * (SOURCES + DISPLACED) as u32 {
            accept(0, round.into());
            accept(1 + round, 1);
        }
    }
}
