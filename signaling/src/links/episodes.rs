//! Finds in a log what was wrong, and when.

use std::ops::RangeInclusive;

use sfu::{Portion, TrackId};

use super::log::{LinkLog, Occurrence};
use super::second::{Part, Second};

/// Good seconds between bad ones do not make two episodes, up to so many.
const GAP_MAX: usize = 5;
/// A bad moment that is shorter than this is none.
const LEAST: usize = 2;
/// Pictures that are smaller than wanted, or do not come, are nothing to speak of before so many seconds: every call
/// begins like that.
const LEAST_SMALL: usize = 8;

/// Parts of packets from which people notice: before repair, and of audio after it.
const LOSS: f64 = 0.05;
const AUDIO_LOST: f64 = 0.03;
const QUEUE_MS: u16 = 300;
/// So many seconds without a packet are a silence: a client sends several a second.
const SILENT: u8 = 4;
/// While it is silent, nothing that is measured means anything.
const SILENT_NOW: u8 = 2;
/// Seconds that are missing in the log.
const UNMEASURED: u32 = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct Download {
    /// The least that its link was believed to carry, in kbit/s.
    pub least_kbps: Option<u32>,
    /// What it carried just before.
    pub before_kbps: Option<u32>,
    /// The least that the server's own uplink had for it.
    pub share_kbps: Option<u32>,
    /// At first, on average.
    pub loss: Option<f64>,
    pub queue_ms: u16,
    pub paused: Vec<TrackId>,
    pub lowered: Vec<TrackId>,
    /// How many voices were left out at once, at most.
    pub unheard: u8,
    /// After repair, on average; `None` if there was no audio.
    pub audio_lost: Option<f64>,
    pub audio_copies: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Less came through towards the participant than it wanted.
    Download(Download),
    /// Of what it sent, so much was lost on its way to us.
    UploadLost(f64),
    /// It sent less than others wanted of it: its upload, or its machine, had no room.
    UploadSmall,
    /// No packet of it came for so many seconds.
    Silent { seconds: u32, returned: bool },
    /// We measured nothing for so many seconds.
    Unmeasured(u32),
    /// Something happened in a moment.
    Happened(Occurrence),
}

/// From one second to another, both included, in Unix time.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    pub from: u32,
    pub to: u32,
    pub trouble: Trouble,
}

/// In order of their beginnings.
pub fn episodes(log: &LinkLog) -> Vec<Episode> {
    let seconds: Vec<&Second> = log.seconds.iter().collect();
    let mut found = Vec::new();
    let mut find = |least, is_bad: &dyn Fn(&Second) -> bool, trouble: &dyn Fn(&[&Second]) -> Trouble| {
        for span in spans(&seconds, least, is_bad) {
            let bad = &seconds[span];
            found.push(Episode { from: bad[0].at, to: bad[bad.len() - 1].at, trouble: trouble(bad) });
        }
    };
    find(LEAST, &is_starved, &|bad| Trouble::Download(download(log, bad)));
    let is_small = |second: &Second| second.lowered > 0 && second.silent < SILENT_NOW && !is_starved(second);
    find(LEAST_SMALL, &is_small, &|bad| Trouble::Download(download(log, bad)));
    let is_lossy = |second: &Second| second.loss_up.get().is_some_and(|loss| loss >= LOSS);
    find(LEAST, &is_lossy, &|bad| Trouble::UploadLost(mean(bad, |second| second.loss_up).unwrap_or(0.0)));
    let is_missing = |second: &Second| second.missing > 0 && second.silent < SILENT_NOW && !is_lossy(second);
    find(LEAST_SMALL, &is_missing, &|_| Trouble::UploadSmall);
    found.extend(silences(&seconds));
    for pair in seconds.windows(2) {
        let (from, to) = (pair[0].at, pair[1].at);
        if to.saturating_sub(from) >= UNMEASURED && !pair[0].is_idle {
            found.push(Episode { from, to, trouble: Trouble::Unmeasured(to - from) });
        }
    }
    let told = log.occurrences.iter().filter(|(_, occurrence)| {
        matches!(occurrence, Occurrence::AddressChanged | Occurrence::SocketLost | Occurrence::Resumed)
    });
    found.extend(told.map(|&(at, occurrence)| Episode { from: at, to: at, trouble: Trouble::Happened(occurrence) }));
    found.sort_by_key(|episode| episode.from);
    // A small picture within a worse time is no news.
    let starved: Vec<(u32, u32)> = found.iter().filter_map(starved_time).collect();
    found.retain(|episode| {
        let within = |(from, to): &(u32, u32)| episode.from <= *to && *from <= episode.to;
        starved_time(episode).is_some()
            || !matches!(episode.trouble, Trouble::Download(_))
            || !starved.iter().any(within)
    });
    found
}

fn starved_time(episode: &Episode) -> Option<(u32, u32)> {
    match &episode.trouble {
        Trouble::Download(download) if download.is_starved() => Some((episode.from, episode.to)),
        _ => None,
    }
}

impl Download {
    /// More was wrong than the size of pictures.
    fn is_starved(&self) -> bool {
        !self.paused.is_empty()
            || self.unheard > 0
            || self.queue_ms >= QUEUE_MS
            || self.loss.is_some_and(|loss| loss >= LOSS)
            || self.audio_lost.is_some_and(|lost| lost >= AUDIO_LOST)
    }
}

fn is_starved(second: &Second) -> bool {
    second.silent < SILENT_NOW
        && (second.paused > 0
            || second.unheard > 0
            || second.queue_ms >= QUEUE_MS
            || second.loss_down.get().is_some_and(|loss| loss >= LOSS)
            || second.audio_lost.get().is_some_and(|lost| lost >= LOSS))
}

/// Bad seconds that belong together, by their index.
fn spans(seconds: &[&Second], least: usize, is_bad: &dyn Fn(&Second) -> bool) -> Vec<RangeInclusive<usize>> {
    let mut spans: Vec<RangeInclusive<usize>> = Vec::new();
    for index in (0..seconds.len()).filter(|&index| is_bad(seconds[index])) {
        match spans.last_mut() {
            Some(last) if index - last.end() <= GAP_MAX + 1 => *last = *last.start()..=index,
            _ => spans.push(index..=index),
        }
    }
    spans.retain(|span| span.end() - span.start() + 1 >= least);
    spans
}

fn download(log: &LinkLog, bad: &[&Second]) -> Download {
    let (from, to) = (bad[0].at, bad[bad.len() - 1].at);
    // An estimate is up to a second old when it is told, and may have begun to fall: rather the one before it.
    let estimated_before = |by: u32| {
        let before = |second: &&Second| second.at + by <= from && second.at + 10 >= from;
        log.seconds.iter().rev().filter(before).find_map(|second| second.estimate.kbps())
    };
    Download {
        least_kbps: bad.iter().filter_map(|second| second.estimate.kbps()).min(),
        before_kbps: estimated_before(2).or_else(|| estimated_before(1)),
        share_kbps: bad.iter().filter_map(|second| second.share.kbps()).min(),
        loss: mean(bad, |second| second.loss_down),
        queue_ms: bad.iter().map(|second| second.queue_ms).max().unwrap_or(0),
        paused: tracks(log, from, to, Portion::Paused, true),
        lowered: tracks(log, from, to, Portion::Lowered, true),
        unheard: bad.iter().map(|second| second.unheard).max().unwrap_or(0),
        audio_lost: mean(bad, |second| second.audio_lost),
        audio_copies: bad.iter().map(|second| second.audio_copies).max().unwrap_or(0),
    }
}

/// The tracks of which the participant got such a portion at some time between `from` and `to`.
fn tracks(log: &LinkLog, from: u32, to: u32, portion: Portion, video: bool) -> Vec<TrackId> {
    let mut found: Vec<TrackId> = Vec::new();
    for (index, change) in log.changes.iter().enumerate().filter(|(_, change)| change.portion == Some(portion)) {
        let mut later = log.changes.iter().skip(index + 1);
        let ended = later.find(|next| next.track == change.track).map_or(u32::MAX, |next| next.at);
        let is_video = log.track(change.track).is_none_or(|track| (track.kind == sfu::Kind::Video) == video);
        if change.at <= to && ended > from && is_video && !found.contains(&change.track) {
            found.push(change.track);
        }
    }
    found
}

fn silences(seconds: &[&Second]) -> Vec<Episode> {
    let mut found: Vec<Episode> = Vec::new();
    for second in seconds.iter().filter(|second| second.silent >= SILENT) {
        let from = second.at.saturating_sub(second.silent.into());
        match found.last_mut().filter(|last| last.from.abs_diff(from) <= 2) {
            Some(last) => last.to = second.at,
            None => {
                let trouble = Trouble::Silent { seconds: 0, returned: false };
                found.push(Episode { from, to: second.at, trouble });
            }
        }
    }
    for episode in &mut found {
        let returned = seconds.iter().find(|second| second.at > episode.to && second.silent < SILENT);
        let end = returned.map_or(episode.to, |second| second.at - u32::from(second.silent));
        episode.to = end.max(episode.to);
        let seconds = episode.to - episode.from;
        episode.trouble = Trouble::Silent { seconds, returned: returned.is_some() };
    }
    found
}

fn mean(seconds: &[&Second], part: impl Fn(&Second) -> Part) -> Option<f64> {
    let known: Vec<f64> = seconds.iter().filter_map(|second| part(second).get()).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
