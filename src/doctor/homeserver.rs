//! The homeserver's client API: that it is one, that pages may read it, and that its clock is right.

use std::time::Duration;

use super::connection::Dialer;
use super::http::{Answer, HttpError};
use super::report::Verdict;

/// Tokens and TURN credentials are taken up to a minute from their time.
const SKEW_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub status: u16,
    pub is_matrix: bool,
    pub is_readable_by_pages: bool,
    pub has_two_origins: bool,
    pub software: String,
    /// Seconds by which its clock is ahead of ours.
    pub ahead_s: Option<i64>,
}

pub async fn ask(dialer: &Dialer, base: &str) -> Result<Versions, HttpError> {
    let answer = dialer.get(format!("{base}/_matrix/client/versions")).send().await?;
    let is_matrix = answer.json().is_some_and(|json| json["versions"].is_array());
    Ok(Versions {
        status: answer.status,
        is_matrix,
        is_readable_by_pages: answer.is_readable_by_pages(),
        has_two_origins: answer.has_two_origins(),
        software: answer.header("server").unwrap_or("homeserver").to_owned(),
        ahead_s: ahead_s(&answer),
    })
}

/// How far the `Date` of an answer is ahead of this machine's clock.
#[allow(clippy::disallowed_methods)] // the real clock
pub fn ahead_s(answer: &Answer) -> Option<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let date = http_date(answer.header("date")?)?;
    Some(date.cast_signed() - now.cast_signed())
}

/// Seconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map_while(|part| part.parse().ok()).collect();
    let [hour, minute, second] = clock[..] else {
        return None;
    };
    if !(1970..9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 of the civil calendar, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

impl Versions {
    pub fn judge(&self, base: &str) -> Verdict {
        if !self.is_matrix {
            return Verdict::Wrong(format!(
                "{base}/_matrix/client/versions answers {} and no list of Matrix versions: let the proxy pass /_matrix \
                 on to Synapse, or correct base_url in .well-known/matrix/client.",
                self.status
            ));
        }
        if self.has_two_origins {
            return Verdict::Wrong(format!(
                "{base} sends Access-Control-Allow-Origin twice, which browsers refuse: remove it from the proxy, since \
                 Synapse sends it."
            ));
        }
        if !self.is_readable_by_pages {
            return Verdict::Wrong(format!(
                "{base} answers without Access-Control-Allow-Origin: *, so no browser reads it: let the proxy leave \
                 Synapse's header in place."
            ));
        }
        Verdict::Fine(format!("{base} answers ({}).", self.software))
    }
}

/// Of all servers that were asked: name, and seconds ahead.
pub fn judge_clocks(ahead_s: &[(String, i64)]) -> Verdict {
    let off = |(_, ahead): &&(String, i64)| ahead.unsigned_abs() > SKEW_MAX.as_secs();
    let wrong: Vec<_> = ahead_s.iter().filter(off).collect();
    match wrong[..] {
        [] if ahead_s.is_empty() => Verdict::Unknown("No answer says what time it is there.".into()),
        [] => Verdict::Fine("The clocks agree with this machine's.".into()),
        [(name, ahead)] if ahead_s.len() > 1 => Verdict::Wrong(format!(
            "The clock of {name} is {} s {}: let NTP set it, or tokens and TURN credentials are refused.",
            ahead.unsigned_abs(),
            if *ahead > 0 { "ahead" } else { "behind" }
        )),
        [(name, ahead), ..] => Verdict::Wrong(format!(
            "The clocks of this machine and {name} are {} s apart: let NTP set both, or tokens and TURN credentials are \
             refused.",
            ahead.unsigned_abs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for nonsense in ["", "now", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(http_date(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_no_homeserver_is_told() {
        let good = Versions { status: 200, is_matrix: true, is_readable_by_pages: true, ..Default::default() };
        assert!(matches!(good.judge("https://m"), Verdict::Fine(_)));
        let wrong = |versions: Versions| match versions.judge("https://m") {
            Verdict::Wrong(sentence) => sentence,
            other => panic!("{other:?}"),
        };
        assert!(wrong(Versions { is_matrix: false, status: 404, ..good.clone() }).contains("answers 404"));
        assert!(wrong(Versions { is_readable_by_pages: false, ..good.clone() }).contains("no browser reads it"));
        assert!(wrong(Versions { has_two_origins: true, ..good }).contains("twice"));
    }

    #[test]
    fn the_clock_that_is_alone_is_the_wrong_one() {
        let clocks = |ahead: &[(&str, i64)]| {
            judge_clocks(&ahead.iter().map(|(name, s)| ((*name).to_owned(), *s)).collect::<Vec<_>>())
        };
        assert!(matches!(clocks(&[("a", 1), ("b", -20)]), Verdict::Fine(_)));
        let one = clocks(&[("a", 1), ("b", -90)]);
        assert!(matches!(one, Verdict::Wrong(told) if told.starts_with("The clock of b is 90 s behind: let NTP")));
        let both = clocks(&[("a", 90), ("b", 91)]);
        assert!(matches!(both, Verdict::Wrong(told) if told.starts_with("The clocks of this machine and a are 90 s")));
    }
}
