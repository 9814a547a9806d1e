//! turnserver.conf as coturn reads it: an option a line, its value behind `=` or a blank.

/// An option, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// From 1.
    pub number: usize,
    pub name: &'a str,
    pub value: &'a str,
}

/// Every line that says something.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let is_separator = |c: char| matches!(c, ' ' | '\t' | '=');
        let (name, value) = line.split_at(line.find(is_separator).unwrap_or(line.len()));
        let value = value.trim_start_matches(is_separator);
        let value = value.strip_prefix('"').map_or(value, |quoted| quoted.strip_suffix('"').unwrap_or(quoted));
        Some(Line { number: index + 1, name, value })
    })
}

impl Line<'_> {
    /// The value of a switch; without one it is on. As there, the first letter is enough, but for "on" and "off".
    /// `None`: coturn does not understand it either, and would not start.
    pub fn is_on(&self) -> Option<bool> {
        match (self.value.bytes().next(), self.value) {
            (None | Some(b'1'..=b'9' | b'y' | b'Y' | b't' | b'T'), _) | (_, "on" | "On" | "ON") => Some(true),
            (Some(b'0' | b'n' | b'N' | b'f' | b'F'), _) | (_, "off" | "Off" | "OFF") => Some(false),
            _ => None,
        }
    }

    /// The number at the beginning: what stands behind it (a comment, say) does not count there.
    pub fn number(&self) -> Option<u64> {
        let end = self.value.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.value.len());
        self.value[..end].parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_coturn_reads_them() {
        let text = "# a comment\n\nlistening-port=3478\n  realm \t example.org \nuser = a:b=c \nno-cli\n\
                    cipher-list=\"DEFAULT\"\r\nno-tls=0\n";
        let read: Vec<_> = lines(text).map(|line| (line.number, line.name, line.value)).collect();
        let expected = [
            (3, "listening-port", "3478"),
            (4, "realm", "example.org"),
            (5, "user", "a:b=c"),
            (6, "no-cli", ""),
            (7, "cipher-list", "DEFAULT"),
            (8, "no-tls", "0"),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn switches_and_numbers_are_understood_as_there() {
        let line = |value| Line { number: 1, name: "x", value };
        for on in ["", "1", "4", "on", "ON", "Yes", "y", "true", "T", "1 # why"] {
            assert_eq!(line(on).is_on(), Some(true), "{on}");
        }
        for off in ["0", "off", "Off", "no", "N", "false", "f", "0;", "none"] {
            assert_eq!(line(off).is_on(), Some(false), "{off}");
        }
        for neither in ["perhaps", "oN", "offline", "-1"] {
            assert_eq!(line(neither).is_on(), None, "{neither}");
        }
        assert_eq!(line("3478 # the usual one").number(), Some(3478));
        assert_eq!(["", "-1", "many", "99999999999999999999"].map(|value| line(value).number()), [None; 4]);
    }
}
