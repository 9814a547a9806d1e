//! What a person reads of the sessions.

use std::collections::BTreeSet;

use super::command::Shown;
use super::protocol::{Census, Passed, Transport};

const HEADINGS: [&str; 9] =
    ["USER", "CLIENT", "RELAYED", "AGE", "LEFT", "PERMISSIONS", "CHANNELS", "TO PEERS", "TO CLIENT"];

pub fn sessions(sessions: &[Shown], census: &Census) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(sessions.iter().map(row));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows.iter().filter(|_| !sessions.is_empty()) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    let users: BTreeSet<&str> = sessions.iter().map(|shown| &*shown.session.user).collect();
    let shown = format!("{} of {}", allocations(sessions.len()), counted(users.len(), "user"));
    let all =
        if census.allocations == sessions.len() { String::new() } else { format!(" ({} in all)", census.allocations) };
    let draining = if census.draining { "; draining" } else { "" };
    let calls = format!("{} with {}", counted(census.rooms, "call"), counted(census.participants, "participant"));
    text + &format!("{shown}{all}{draining}. {calls} through the SFU: /admin shows them.\n")
}

pub fn draining(left: usize, ends_in_s: Option<u64>) -> String {
    let left = allocations(left);
    match ends_in_s {
        Some(seconds) => {
            let seconds = span(seconds);
            format!("draining: {left} left; the program ends when the last has gone, and in {seconds} at the latest\n")
        }
        None => format!("draining: {left} left\n"),
    }
}

pub fn revoked(ended: usize, seconds: u64) -> String {
    let further =
        if seconds == 0 { "it may make others".into() } else { format!("none is made for {}", span(seconds)) };
    format!("revoked: {} ended, and {further}\n", allocations(ended))
}

pub fn allocations(count: usize) -> String {
    counted(count, "allocation")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn row(Shown { session, rate }: &Shown) -> [String; 9] {
    let transport = match session.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    };
    [
        printable(&session.user),
        format!("{} {transport}", session.client),
        session.relayed.to_string(),
        span(session.age_s),
        span(session.remaining_s),
        session.permissions.to_string(),
        session.channels.to_string(),
        passed(session.to_peers, rate.map(|rate| rate.to_peers_bps)),
        passed(session.to_client, rate.map(|rate| rate.to_client_bps)),
    ]
}

/// A name comes from whoever made the credential: it must not move the operator's cursor.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, _) => format!("{hours}:{minutes:02} h"),
    }
}

fn passed(Passed { packets, bytes }: Passed, bps: Option<u64>) -> String {
    let rate = bps.map(|bps| format!(", {}", scaled(bps, "bit/s"))).unwrap_or_default();
    format!("{packets} / {}{rate}", scaled(bytes, "B"))
}

fn scaled(count: u64, unit: &str) -> String {
    let (value, prefix) = match count {
        0..1_000 => return format!("{count} {unit}"),
        1_000..1_000_000 => (count as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (count as f64 / 1e6, "M"),
        _ => (count as f64 / 1e9, "G"),
    };
    format!("{value:.1} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::protocol::{Rate, Session};
    use super::*;

    fn shown(user: &str, rate: Option<Rate>) -> Shown {
        let session = Session {
            user: user.into(),
            client: "192.0.2.1:5000".parse().unwrap(),
            transport: Transport::Tls,
            relayed: "203.0.113.5:50000".parse().unwrap(),
            worker: 0,
            age_s: 3725,
            remaining_s: 59,
            permissions: 1,
            channels: 2,
            to_peers: Passed { packets: 20, bytes: 12_345 },
            to_client: Passed { packets: 1, bytes: 999 },
        };
        Shown { session, rate }
    }

    #[test]
    fn a_rate_is_of_one_allocation() {
        let Shown { session: before, .. } = shown("anna", None);
        let mut after = before.clone();
        after.to_peers.bytes += 250_000;
        let rate = Rate { to_peers_bps: 1_000_000, to_client_bps: 0 };
        assert_eq!(after.rate_since(&before, Duration::from_secs(2)), Some(rate));
        // Another client's that got the same address, or the same one's that was made since.
        let of_ben = Session { user: "ben".into(), ..after.clone() };
        let younger = Session { age_s: 0, ..after.clone() };
        let less = Session { to_client: Passed::default(), ..after.clone() };
        for other in [of_ben, younger, less] {
            assert_eq!(other.rate_since(&before, Duration::from_secs(2)), None);
        }
        let text = super::sessions(&[shown("anna", Some(rate))], &Census::default());
        assert!(text.contains("20 / 12.3 kB, 1.0 Mbit/s") && text.contains("1 / 999 B, 0 bit/s"), "{text}");
    }

    #[test]
    fn a_table_with_a_line_for_each_and_the_sum() {
        let census = Census { allocations: 3, rooms: 1, participants: 2, draining: true };
        let text = super::sessions(&[shown("anna", None), shown("ben\u{1b}[2J", None)], &census);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for cell in ["192.0.2.1:5000 tls", "203.0.113.5:50000", "1:02 h", "59 s", "20 / 12.3 kB", "1 / 999 B"] {
            assert!(lines[1].contains(cell), "{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(lines[0].find("CLIENT"), lines[1].find("192.0.2.1"), "{text}");
        let sum = "2 allocations of 2 users (3 in all); draining. 1 call with 2 participants through the SFU: /admin shows them.";
        assert_eq!(lines[3], sum);
        assert!(super::sessions(&[], &Census::default()).starts_with("0 allocations of 0 users. "));
    }

    #[test]
    fn spans_and_sizes() {
        assert_eq!([0, 61, 599, 3600].map(span), ["0 s", "1:01 min", "9:59 min", "1:00 h"]);
        let sizes = [1_000, 2_500_000, 7_000_000_000].map(|bytes| passed(Passed { packets: 1, bytes }, None));
        assert_eq!(sizes, ["1 / 1.0 kB", "1 / 2.5 MB", "1 / 7.0 GB"]);
    }
}
