//! What the operator permits: which servers, which rooms, and what may be published by whom.

use super::ServerName;

/// A text in which every `*` stands for any characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: impl Into<String>) -> Pattern {
        Pattern(text.into())
    }

    /// In time linear in both lengths for every star.
    pub fn fits(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = self.0.rsplit_once('*').map(|(_, last)| last) else {
            return rest.is_empty();
        };
        let stars = self.0.matches('*').count();
        for part in parts.take(stars - 1) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    pub fn new(texts: &[String]) -> Patterns {
        Patterns(texts.iter().map(Pattern::new).collect())
    }

    pub fn fit(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.fits(text))
    }
}

/// What is to be assumed where nobody can tell whether a user is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipUnknown {
    Refuse,
    Trust,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// Servers whose users may have tokens.
    pub servers: Patterns,
    /// Servers, besides our own, whose users may open a call.
    pub opening_servers: Patterns,
    pub rooms: Patterns,
    /// Users that may publish these.
    pub microphone: Patterns,
    pub camera: Patterns,
    pub screen: Patterns,
    pub membership_unknown: MembershipUnknown,
}

impl Policy {
    pub fn permits_server(&self, server: &ServerName) -> bool {
        self.servers.fit(server.as_str())
    }

    pub fn permits_room(&self, room_id: &str) -> bool {
        self.rooms.fit(room_id)
    }

    /// LiveKit's names of what the user may publish; `None` when that is everything.
    pub fn sources(&self, user_id: &str) -> Option<Vec<String>> {
        let microphone = self.microphone.fit(user_id);
        let camera = self.camera.fit(user_id);
        let screen = self.screen.fit(user_id);
        if microphone && camera && screen {
            return None;
        }
        let named =
            [(microphone, "microphone"), (camera, "camera"), (screen, "screen_share"), (screen, "screen_share_audio")];
        Some(named.into_iter().filter(|(permitted, _)| *permitted).map(|(_, name)| name.to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("@*:example.org", "@alice:example.org", true),
            ("@*:example.org", "@alice:example.org.evil.net", false),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.example.org", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} {text}");
        }
    }

    /// As the definition says it.
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
            [first, rest @ ..] => text.first() == Some(first) && fits(rest, &text[1..]),
        }
    }

    proptest::proptest! {
        #[test]
        fn every_pattern_fits_what_it_says(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            proptest::prop_assert_eq!(Pattern::new(&pattern).fits(&text), fits(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
