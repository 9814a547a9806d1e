//! From when until when a certificate is valid (RFC 5280 §4.1.2.5). Of all that stands in it, nothing else is read here.

use std::time::Duration;

/// Unix times, as all of them here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Duration,
    pub not_after: Duration,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

impl Validity {
    /// Of a certificate in DER; `None` if it is none.
    pub fn of(certificate: &[u8]) -> Option<Validity> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (tbs, _) = element(certificate, SEQUENCE)?;
        // RFC 5280 §4.1: version (unless it is 1), serial number, signature algorithm, issuer, validity.
        let rest = element(tbs, VERSION).map_or(tbs, |(_, rest)| rest);
        let (_, rest) = element(rest, INTEGER)?;
        let (_, rest) = element(rest, SEQUENCE)?;
        let (_, rest) = element(rest, SEQUENCE)?;
        let (validity, _) = element(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Validity { not_before, not_after })
    }

    pub fn length(&self) -> Duration {
        self.not_after.saturating_sub(self.not_before)
    }
}

/// The contents of the first element, which has to have this tag, and what follows it (X.690 §8.1).
fn element(octets: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = octets else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match usize::from(*first) {
        short if short < 0x80 => (short, rest),
        // No certificate has 4 GiB.
        long if (0x81..=0x84).contains(&long) => {
            let (length, rest) = rest.split_at_checked(long - 0x80)?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// RFC 5280 §4.1.2.5: with seconds, and in UTC.
fn time(octets: &[u8]) -> Option<(Duration, &[u8])> {
    let (century, text, rest) = match element(octets, UTC_TIME) {
        Some((text, rest)) => (None, text, rest),
        None => {
            let (text, rest) = element(octets, GENERALIZED_TIME)?;
            let (century, text) = text.split_at_checked(2)?;
            (Some(number(century)?), text, rest)
        }
    };
    let [fields @ .., b'Z'] = text else { return None };
    if fields.len() != 12 {
        return None;
    }
    let mut fields = fields.chunks_exact(2).map(number);
    let mut next = || fields.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    let century = century.unwrap_or(if year < 50 { 20 } else { 19 });
    let days = days_since_1970(century * 100 + year, month, day)?;
    Some((Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second), rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // From 1 March of the year 0 to 1 January 1970.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(not_before: (i32, u8, u8), not_after: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["calls.example.org".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(not_before.0, not_before.1, not_before.2);
        params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        // `date -u -d 2026-11-28 +%s`
        let validity = Validity::of(&certificate((2026, 11, 28), (2027, 2, 26))).unwrap();
        assert_eq!(validity.not_before, Duration::from_secs(1_795_824_000));
        assert_eq!(validity.not_after, Duration::from_secs(1_803_600_000));
        assert_eq!(validity.length(), Duration::from_secs(90 * 86_400));
        // From 2050 on the time is a GeneralizedTime.
        let validity = Validity::of(&certificate((1999, 12, 31), (2052, 3, 1))).unwrap();
        assert_eq!(validity.not_before, Duration::from_secs(946_598_400));
        assert_eq!(validity.not_after, Duration::from_secs(2_592_864_000));
    }

    #[test]
    fn leap_years_are_known() {
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
        assert_eq!(days_since_1970(2000, 2, 29), Some(11_016));
        assert_eq!(days_since_1970(2000, 3, 1), Some(11_017));
        assert_eq!(days_since_1970(2100, 3, 1), Some(47_541));
        assert_eq!(days_since_1970(1969, 12, 31), None);
        assert_eq!(days_since_1970(2026, 13, 1), None);
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let whole = certificate((2026, 1, 1), (2027, 1, 1));
        for length in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            octets in proptest::collection::vec(any::<u8>(), 0..64),
            changes in proptest::collection::vec((0usize..200, any::<u8>()), 0..8),
        ) {
            let _ = Validity::of(&octets);
            let mut changed = certificate((2026, 1, 1), (2027, 1, 1));
            for (at, octet) in changes {
                changed[at] = octet;
            }
            if let Some(validity) = Validity::of(&changed) {
                prop_assert!(validity.not_after < Duration::from_secs(253_402_300_800 + 40 * 86_400));
            }
        }
    }
}
