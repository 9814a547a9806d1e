//! Says in sentences what a log shows: the answer to "why did Bob freeze?".

use sfu::{Kind, TrackId};

use super::episodes::{Download, Episode, Trouble, episodes};
use super::log::{LinkLog, Occurrence};
use super::second::Second;

/// An estimate that fell below this part of what it was has fallen.
const FALLEN: f64 = 0.75;
/// Less audio lost than this, after repair, is audio kept.
const KEPT: f64 = 0.03;
/// Names said before the rest is counted.
const NAMES: usize = 3;
const SENTENCES_MAX: usize = 50;

/// What was wrong with a participant's link, and with those of the publishers that it listens to, in order; what was not,
/// if nothing was. Times are of the day, so many seconds east of UTC.
pub fn explain(log: &LinkLog, publishers: &[&LinkLog], utc_offset: i32) -> Vec<String> {
    let mut found: Vec<(u32, String)> =
        episodes(log).iter().map(|episode| (episode.from, sentence(log, episode, utc_offset))).collect();
    let Some((first, last)) = log.seconds.front().zip(log.seconds.back()) else {
        return vec![format!("{} was never connected: no media has come or gone.", log.name)];
    };
    for publisher in publishers {
        let theirs = episodes(publisher).into_iter().filter(|episode| {
            let is_theirs = matches!(episode.trouble, Trouble::UploadLost(_) | Trouble::Silent { .. });
            is_theirs && episode.to >= first.at && episode.from <= last.at
        });
        found.extend(theirs.map(|episode| (episode.from, sentence(publisher, &episode, utc_offset))));
    }
    found.sort_by_key(|(from, _)| *from);
    if found.is_empty() {
        return vec![calm(log, first, last, utc_offset)];
    }
    // The latest matter most.
    let passed_over = found.len().saturating_sub(SENTENCES_MAX);
    found.into_iter().skip(passed_over).map(|(_, sentence)| sentence).collect()
}

fn sentence(log: &LinkLog, episode: &Episode, utc_offset: i32) -> String {
    let name = &log.name;
    let (from, to) = (clock(episode.from, utc_offset), clock(episode.to, utc_offset));
    let time = if episode.from == episode.to { from.clone() } else { format!("{from}-{to}") };
    match &episode.trouble {
        Trouble::Download(download) => {
            let (link, effects) = (link_words(download), effects(log, download));
            format!("At {time} {name}'s download {link}: {}.", effects.join(", "))
        }
        Trouble::UploadLost(loss) => {
            format!("At {time} {name}'s upload lost {}: whoever watched or heard {name} had gaps.", percent(*loss))
        }
        Trouble::UploadSmall => format!(
            "At {time} {name} sent smaller pictures than others wanted: the upload or the machine had no room for more."
        ),
        Trouble::Silent { seconds, returned } => {
            let end = if *returned { "" } else { ", and it did not come back" };
            format!("At {time} {name}'s client was silent (no packet for {seconds} s): network or laptop asleep{end}.")
        }
        Trouble::Unmeasured(seconds) => {
            format!("At {time} this server measured nothing for {seconds} s: it was overloaded, or stood still.")
        }
        Trouble::Happened(Occurrence::AddressChanged) => {
            format!("At {time} {name}'s packets began to come from another address: another network.")
        }
        Trouble::Happened(Occurrence::SocketLost) => {
            format!("At {time} {name}'s signalling connection broke.")
        }
        Trouble::Happened(Occurrence::Resumed) => format!("At {time} {name}'s client was back."),
        Trouble::Happened(other) => format!("At {time} {name}: {}.", other.word()),
    }
}

/// How the link was: `fell to 180 kbit/s with 12 % loss`.
fn link_words(download: &Download) -> String {
    if let Some(share) = download.share_kbps
        && download.least_kbps.is_none_or(|least| share < least)
    {
        return format!("had only {} of this server's uplink (limits.uplink_mbps)", rate(share));
    }
    let mut words = match (download.least_kbps, download.before_kbps) {
        (Some(least), Some(before)) if f64::from(least) < f64::from(before) * FALLEN => {
            format!("fell to {}", rate(least))
        }
        (Some(least), _) => format!("carried {}", rate(least)),
        (None, _) => "suffered".to_owned(),
    };
    if let Some(loss) = download.loss.filter(|loss| *loss >= 0.005) {
        words += &format!(" with {} loss", percent(loss));
    }
    if download.queue_ms >= 300 {
        words += &format!(" and up to {} ms of delay in a queue", download.queue_ms);
    }
    words
}

/// What came of it.
fn effects(log: &LinkLog, download: &Download) -> Vec<String> {
    let mut effects = Vec::new();
    let lowered: Vec<TrackId> =
        download.lowered.iter().filter(|track| !download.paused.contains(track)).copied().collect();
    for (tracks, what) in [(&download.paused, "paused"), (&lowered, "lowered")] {
        if !tracks.is_empty() {
            effects.push(format!("{} {what}", names(log, tracks)));
        }
    }
    match (download.unheard, download.audio_lost) {
        (0, None) if effects.is_empty() => effects.push("nothing was left out".into()),
        (0, None) => {}
        (0, Some(lost)) if lost < KEPT => {
            let twice = if download.audio_copies > 0 { "sent more than once and " } else { "" };
            effects.push(format!("audio was {twice}kept ({} lost after repair)", percent(lost)));
        }
        (0, Some(lost)) => effects.push(format!("audio had gaps ({} lost after repair)", percent(lost))),
        (1, _) => effects.push("all voices but the loudest were heard, one was left out".into()),
        (count, _) => effects.push(format!("only the loudest voices were heard, {count} were left out")),
    }
    effects
}

/// `video of Anna was`, `video of Anna and screen of Ben were`.
fn names(log: &LinkLog, tracks: &[TrackId]) -> String {
    let name = |track: &TrackId| match log.track(*track) {
        Some(known) if known.source.starts_with("screen") => format!("screen of {}", known.name),
        Some(known) if known.kind == Kind::Audio => format!("sound of {}", known.name),
        Some(known) => format!("video of {}", known.name),
        None => "a video".to_owned(),
    };
    let said: Vec<String> = tracks.iter().take(NAMES).map(name).collect();
    let more = tracks.len().saturating_sub(NAMES);
    match (said.as_slice(), more) {
        ([one], _) => format!("{one} was"),
        (some, 0) => format!("{} and {} were", some[..some.len() - 1].join(", "), some[some.len() - 1]),
        (some, more) => format!("{} and {more} more were", some.join(", ")),
    }
}

fn calm(log: &LinkLog, first: &Second, last: &Second, utc_offset: i32) -> String {
    let (from, to) = (clock(first.at, utc_offset), clock(last.at, utc_offset));
    let worst = |part: fn(&Second) -> Option<f64>| log.seconds.iter().filter_map(part).fold(0.0, f64::max);
    let lost = worst(|second| second.loss_down.get()).max(worst(|second| second.loss_up.get()));
    let round_trip = match last.round_trip_ms() {
        Some(ms) => format!(", round trip {ms} ms"),
        None => String::new(),
    };
    format!(
        "Nothing was wrong with {}'s link at {from}-{to}: never more than {} lost{round_trip}, and everything wanted was sent.",
        log.name,
        percent(lost)
    )
}

/// The time of the day.
fn clock(unix: u32, utc_offset: i32) -> String {
    let second = (i64::from(unix) + i64::from(utc_offset)).rem_euclid(24 * 3600);
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

fn rate(kbps: u32) -> String {
    if kbps >= 1_000 { format!("{:.1} Mbit/s", f64::from(kbps) / 1e3) } else { format!("{kbps} kbit/s") }
}

fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent > 0.0 && percent < 0.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::super::log::{Change, TrackName};
    use super::super::second::{Part, Rate};
    use super::*;
    use sfu::Portion;

    /// 14:00:00 on some day.
    const START: u32 = 1_800_021_600;
    const HOUR: i32 = 3_600;

    /// Five minutes of a good link.
    fn calm_log(name: &str) -> LinkLog {
        let mut log = LinkLog::new("PA_1", name);
        for at in 0..300 {
            log.seconds.push_back(Second {
                at: START + at,
                estimate: Rate::of_bps(2_400_000),
                round_trip_ms: 32,
                loss_down: Part::new(0.0),
                audio_lost: Part::new(0.0),
                ..Second::default()
            });
        }
        for (track, name, source) in
            [(1, "Anna", "camera"), (2, "Carl", "screen_share"), (3, "Dora", "camera"), (4, "Emil", "camera")]
        {
            let track = TrackName {
                track: TrackId(track),
                kind: Kind::Video,
                publisher: name.into(),
                name: name.into(),
                source,
            };
            log.tracks.push_back(track);
        }
        log
    }

    fn change(log: &mut LinkLog, at: u32, track: u64, portion: Portion) {
        log.changes.push_back(Change { at: START + at, track: TrackId(track), layer: 1, portion: Some(portion) });
    }

    fn alter(log: &mut LinkLog, seconds: std::ops::Range<u32>, alter: impl Fn(&mut Second)) {
        log.seconds.range_mut(seconds.start as usize..seconds.end as usize).for_each(alter);
    }

    #[test]
    fn why_did_bob_freeze() {
        let mut bob = calm_log("Bob");
        change(&mut bob, 0, 1, Portion::Whole);
        change(&mut bob, 190, 1, Portion::Paused);
        change(&mut bob, 215, 1, Portion::Whole);
        alter(&mut bob, 190..216, |second| {
            second.estimate = Rate::of_bps(180_000 + u64::from(second.at % 7) * 1_000);
            second.loss_down = Part::new(0.12);
            second.paused = 1;
            second.audio_lost = Part::new(0.02);
        });
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:03:10-14:03:35 Bob's download fell to 180 kbit/s with 12 % loss: video of Anna was paused, audio was kept (2 % lost after repair)."
            ]
        );
        bob.seconds.range_mut(190..216).for_each(|second| second.audio_copies = 1);
        assert!(explain(&bob, &[], HOUR)[0].starts_with("At 15:03:10-15:03:35 Bob's"), "an hour east");
        assert!(explain(&bob, &[], 0)[0].ends_with("audio was sent more than once and kept (2 % lost after repair)."));
    }

    #[test]
    fn a_fall_is_told_from_the_first_estimate_on() {
        let fall = |estimated: std::ops::Range<u32>| {
            let mut bob = calm_log("Bob");
            bob.seconds.truncate(20);
            alter(&mut bob, 0..10, |second| second.estimate = Rate::UNKNOWN);
            alter(&mut bob, estimated, |second| second.estimate = Rate::of_bps(2_400_000));
            change(&mut bob, 10, 1, Portion::Paused);
            alter(&mut bob, 10..20, |second| (second.estimate, second.paused) = (Rate::of_bps(90_000), 1));
            explain(&bob, &[], 0)[0].contains("download fell to 90 kbit/s")
        };
        assert!(fall(9..10), "known for a second");
        assert!(fall(4..6), "not told in the seconds just before");
        assert!(!fall(0..0), "never known to be better");
    }

    #[test]
    fn several_videos_and_gaps_of_audio_are_named() {
        let mut bob = calm_log("Bob");
        for track in 1..5 {
            change(&mut bob, 50, track, Portion::Paused);
        }
        alter(&mut bob, 50..60, |second| {
            (second.paused, second.queue_ms, second.audio_lost) = (4, 480, Part::new(0.2));
        });
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:00:50-14:00:59 Bob's download carried 2.4 Mbit/s and up to 480 ms of delay in a queue: video of Anna, screen of Carl, video of Dora and 1 more were paused, audio had gaps (20 % lost after repair)."
            ]
        );
    }

    #[test]
    fn a_small_picture_is_told_when_it_lasts() {
        let mut bob = calm_log("Bob");
        change(&mut bob, 100, 1, Portion::Lowered);
        alter(&mut bob, 0..7, |second| second.lowered = 1);
        alter(&mut bob, 100..150, |second| (second.lowered, second.estimate) = (1, Rate::of_bps(650_000)));
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:01:40-14:02:29 Bob's download fell to 650 kbit/s: video of Anna was lowered, audio was kept (0 % lost after repair)."
            ]
        );
    }

    #[test]
    fn the_servers_own_uplink_is_named() {
        let mut bob = calm_log("Bob");
        change(&mut bob, 100, 1, Portion::Lowered);
        alter(&mut bob, 100..150, |second| (second.lowered, second.share) = (1, Rate::of_bps(560_000)));
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:01:40-14:02:29 Bob's download had only 560 kbit/s of this server's uplink (limits.uplink_mbps): video of Anna was lowered, audio was kept (0 % lost after repair)."
            ]
        );
    }

    #[test]
    fn a_loud_few_are_heard() {
        let mut bob = calm_log("Bob");
        alter(&mut bob, 10..20, |second| (second.unheard, second.estimate) = (3, Rate::of_bps(60_000)));
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:00:10-14:00:19 Bob's download fell to 60 kbit/s: only the loudest voices were heard, 3 were left out."
            ]
        );
    }

    #[test]
    fn what_a_publisher_lost_is_told_to_whoever_asks_for_a_listener() {
        let (bob, mut anna) = (calm_log("Bob"), calm_log("Anna"));
        alter(&mut anna, 60..72, |second| second.loss_up = Part::new(0.3));
        alter(&mut anna, 200..220, |second| second.missing = 1);
        let upload = "At 14:01:00-14:01:11 Anna's upload lost 30 %: whoever watched or heard Anna had gaps.";
        assert_eq!(explain(&bob, &[&anna], 0), [upload]);
        assert_eq!(explain(&anna, &[&bob], 0)[0], upload);
        assert!(explain(&anna, &[], 0)[1].contains("Anna sent smaller pictures than others wanted"));
    }

    #[test]
    fn a_silence_is_one_sentence() {
        let mut bob = calm_log("Bob");
        for second in bob.seconds.range_mut(100..122) {
            second.silent = (second.at - START - 99) as u8;
            // What the estimate makes of a silence is no news.
            (second.paused, second.loss_down) = (1, Part::new(1.0));
        }
        bob.occurrences.push_back((START + 123, Occurrence::AddressChanged));
        assert_eq!(
            explain(&bob, &[], 0),
            [
                "At 14:01:39-14:02:02 Bob's client was silent (no packet for 23 s): network or laptop asleep.",
                "At 14:02:03 Bob's packets began to come from another address: another network.",
            ]
        );
        bob.seconds.truncate(122);
        bob.occurrences.clear();
        let last = &explain(&bob, &[], 0)[0];
        assert!(last.ends_with("(no packet for 22 s): network or laptop asleep, and it did not come back."), "{last}");
    }

    #[test]
    fn nothing_wrong_is_an_answer_too() {
        let mut bob = calm_log("Bob");
        let all = "Nothing was wrong with Bob's link at 14:00:00-14:04:59: never more than 0 % lost, round trip 32 ms, and everything wanted was sent.";
        assert_eq!(explain(&bob, &[], 0), [all]);
        bob.seconds.drain(50..60);
        assert_eq!(
            explain(&bob, &[], 0),
            ["At 14:00:49-14:01:00 this server measured nothing for 11 s: it was overloaded, or stood still."]
        );
        bob.seconds.clear();
        assert_eq!(explain(&bob, &[], 0), ["Bob was never connected: no media has come or gone."]);
    }
}
