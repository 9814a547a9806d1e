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
    /// The value of a switch; without one it is on. `None`: coturn does not understand it either.
    pub fn is_on(&self) -> Option<bool> {
        match self.value.to_ascii_lowercase().as_str() {
            "" | "1" | "on" | "yes" | "y" | "true" | "t" => Some(true),
            "0" | "off" | "no" | "n" | "false" | "f" => Some(false),
            _ => None,
        }
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
        let switch = |value| Line { number: 1, name: "no-tls", value }.is_on();
        assert_eq!(
            [switch(""), switch("Yes"), switch("off"), switch("perhaps")],
            [Some(true), Some(true), Some(false), None]
        );
    }
}
