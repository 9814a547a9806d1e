//! What the examination says, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// What was looked at, in the order of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Domain,
    WellKnown,
    Homeserver,
    Clock,
    Account,
    Appservice,
    Transactions,
    Transports,
    Service,
    Endpoints,
    Metrics,
    Socket,
    OpenId,
    Membership,
    Proxying,
    DelayedEvents,
    Udp,
    Tcp,
    Turn,
    TurnServer,
    Token,
    Call,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::Domain => "domain",
            Check::WellKnown => "well-known",
            Check::Homeserver => "homeserver",
            Check::Clock => "clocks",
            Check::Account => "account",
            Check::Appservice => "appservice",
            Check::Transactions => "transactions",
            Check::Transports => "transports",
            Check::Service => "service",
            Check::Endpoints => "endpoints",
            Check::Metrics => "metrics",
            Check::Socket => "socket",
            Check::OpenId => "OpenID",
            Check::Membership => "membership",
            Check::Proxying => "proxying",
            Check::DelayedEvents => "delayed events",
            Check::Udp => "UDP",
            Check::Tcp => "TCP",
            Check::Turn => "TURN",
            Check::TurnServer => "turn_uris",
            Check::Token => "token",
            Check::Call => "call",
        }
    }
}

/// One sentence, and how bad it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "sentence", rename_all = "snake_case")]
pub enum Verdict {
    Fine(String),
    /// It works, and this is what is lost.
    Lost(String),
    /// What is wrong, and what to change.
    Wrong(String),
    /// Not judged, and why.
    Unknown(String),
}

/// The sentence of what a test expects to be wrong.
#[cfg(test)]
pub fn wrong(verdict: Verdict) -> String {
    match verdict {
        Verdict::Wrong(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

impl Verdict {
    pub fn is_wrong(&self) -> bool {
        matches!(self, Verdict::Wrong(_))
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Verdict::Fine(sentence) => ("ok", sentence),
            Verdict::Lost(sentence) => ("lost", sentence),
            Verdict::Wrong(sentence) => ("WRONG", sentence),
            Verdict::Unknown(sentence) => ("-", sentence),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub check: Check,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All that was found, in the order of the chain.
#[derive(Clone, Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    pub fn add(&mut self, check: Check, verdict: Verdict) {
        self.lines.push(Line { check, verdict });
    }

    /// Whether something was found wrong with `check`.
    pub fn is_wrong(&self, check: Check) -> bool {
        self.lines.iter().any(|line| line.check == check && line.verdict.is_wrong())
    }

    fn wrong(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict.is_wrong()).count()
    }

    pub fn is_well(&self) -> bool {
        self.wrong() == 0
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for Line { check, verdict } in &self.lines {
            let (mark, sentence) = verdict.parts();
            let _ = writeln!(text, "{mark:>5}  {:14}  {sentence}", check.name());
        }
        text.push('\n');
        text.push_str(&match self.wrong() {
            0 if self.lines.iter().any(|line| matches!(line.verdict, Verdict::Lost(_))) => {
                "Calls work; what is lost is said above.\n".to_owned()
            }
            0 => "All is well.\n".to_owned(),
            1 => "One thing is wrong.\n".to_owned(),
            count => format!("{count} things are wrong.\n"),
        });
        text
    }

    pub fn json(&self) -> String {
        let value = serde_json::json!({ "well": self.is_well(), "checks": self.lines });
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::default();
        verdicts.iter().for_each(|verdict| report.add(Check::Turn, verdict.clone()));
        report
    }

    #[test]
    fn what_is_lost_is_not_wrong() {
        let lost = report(&[Verdict::Lost("Slower.".into())]);
        assert!(lost.is_well() && lost.text().contains("what is lost is said above"));
        let wrong = report(&[Verdict::Wrong("No.".into()), Verdict::Fine("Yes.".into()), Verdict::Wrong("No.".into())]);
        assert!(!wrong.is_well() && wrong.is_wrong(Check::Turn) && wrong.text().ends_with("2 things are wrong.\n"));
        assert!(report(&[Verdict::Unknown("Who knows.".into())]).text().ends_with("All is well.\n"));
    }

    #[test]
    fn a_program_reads_the_verdicts() {
        let json: serde_json::Value =
            serde_json::from_str(&report(&[Verdict::Wrong("It broke: mend it.".into())]).json()).unwrap();
        assert_eq!(json["well"], false);
        let line = serde_json::json!({ "check": "turn", "verdict": "wrong", "sentence": "It broke: mend it." });
        assert_eq!(json["checks"][0], line);
    }
}
