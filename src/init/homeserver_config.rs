//! What the homeserver's configuration has already. Only the names of its top-level keys are read, and whether it names
//! TURN over TLS.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::IgnoredAny;

use super::answers::Answers;
use super::synapse::{OWN_KEYS, SHARED_KEYS, shared};

/// Where Debian's package and most others have it.
const USUAL: [&str; 2] = ["/etc/matrix-synapse/homeserver.yaml", "/etc/matrix-synapse/conf.d"];
/// The name that our own file has, which does not count.
const OURS: &str = "hausruf.yaml";

/// The top-level keys of its files, in the order in which Synapse reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HomeserverConfig {
    pub keys: Vec<(PathBuf, String)>,
    /// Files that could not be read.
    pub unread: Vec<PathBuf>,
    /// Whether any file was found.
    pub is_known: bool,
    /// Whether its clients are sent to TURN over TLS.
    pub has_turns: bool,
}

impl HomeserverConfig {
    /// `given` has to be there; otherwise the usual places are looked at.
    pub fn find(given: Option<&Path>) -> anyhow::Result<HomeserverConfig> {
        let mut found = HomeserverConfig::default();
        match given {
            Some(path) => {
                for file in yaml_files(path).with_context(|| format!("cannot read {}", path.display()))? {
                    let text = std::fs::read_to_string(&file);
                    found.add(&file, &text.with_context(|| format!("cannot read {}", file.display()))?);
                }
            }
            None => {
                for path in USUAL.map(Path::new) {
                    for file in yaml_files(path).unwrap_or_default() {
                        match std::fs::read_to_string(&file) {
                            Ok(text) => found.add(&file, &text),
                            Err(_) => found.unread.push(file),
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    pub fn add(&mut self, file: &Path, text: &str) {
        self.is_known = true;
        self.has_turns |= text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains("turns:"));
        // Some tools write JSON, which is YAML too.
        let json: Option<BTreeMap<String, IgnoredAny>> = serde_json::from_str(text).ok();
        let keys = match json {
            Some(json) => json.into_keys().collect(),
            None => top_level_keys(text).map(str::to_owned).collect::<Vec<_>>(),
        };
        self.keys.extend(keys.into_iter().map(|key| (file.to_owned(), key)));
    }

    /// The last file with this key.
    pub fn file_with(&self, key: &str) -> Option<&Path> {
        self.keys.iter().rev().find(|(_, other)| other == key).map(|(file, _)| file.as_path())
    }

    /// Keys that our file leaves to others.
    pub fn merges(&self) -> Vec<(&'static str, &Path)> {
        SHARED_KEYS.into_iter().filter_map(|key| Some((key, self.file_with(key)?))).collect()
    }

    /// What is to be known before the file is put in place.
    pub fn told(&self, answers: &Answers) -> String {
        let mut text = String::new();
        for (key, file) in self.merges() {
            text.push_str(&format!(
                "\n{} has {key} already, which a second one would hide. Merge these lines there:\n\n",
                file.display()
            ));
            shared(key, answers).lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        let replaced: Vec<&str> = OWN_KEYS.into_iter().filter(|key| self.file_with(key).is_some()).collect();
        if !replaced.is_empty() {
            let turns = match self.has_turns {
                true => " (add `turns:` URIs again once [tls] of hausruf.toml has a certificate)",
                false => "",
            };
            text.push_str(&format!("\nSynapse's present {} give way to the new ones{turns}.\n", replaced.join(", ")));
        }
        let keys = SHARED_KEYS.join(", ");
        if !self.unread.is_empty() {
            let files: Vec<String> = self.unread.iter().map(|path| path.display().to_string()).collect();
            let files = files.join(", ");
            text.push_str(&format!(
                "\n{files} could not be read. Where one of them has {keys}, merge by hand what \
                 synapse/conf.d/hausruf.yaml says there, or run init again with --homeserver-config as root.\n"
            ));
        } else if !self.is_known {
            text.push_str(&format!(
                "\nSynapse's configuration was not looked at. Where it has {keys}, merge by hand what \
                 synapse/conf.d/hausruf.yaml says there, or run init again with --homeserver-config.\n"
            ));
        }
        text
    }
}

/// The file, or the files of a directory in Synapse's order, without our own.
fn yaml_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return if path.exists() { Ok(vec![path.to_owned()]) } else { Err(std::io::ErrorKind::NotFound.into()) };
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let is_yaml = file.extension().is_some_and(|extension| extension == "yaml");
        if is_yaml && file.file_name().is_some_and(|name| name != OURS) {
            files.push(file);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// In a block mapping, which every Synapse configuration is, a top-level key begins its line.
fn top_level_keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (key, rest) = line.split_once(':')?;
        let key = key.trim_matches(['"', '\'']);
        let is_name = key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        (is_name && (rest.is_empty() || rest.starts_with(' '))).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_top_level_keys_count() {
        let text = "# turn_uris: no\nserver_name: \"a:8448\"\nlisteners:\n  - port: 8008\n    experimental_features: x\n\
                    'matrix_rtc':\n---\nhttp://x: y\n";
        let keys: Vec<&str> = top_level_keys(text).collect();
        assert_eq!(keys, ["server_name", "listeners", "matrix_rtc"]);
        let mut config = HomeserverConfig::default();
        config.add(Path::new("a"), "{\n  \"experimental_features\": {\"matrix_rtc\": true}\n}");
        assert_eq!(config.file_with("experimental_features"), Some(Path::new("a")));
        assert_eq!(config.file_with("matrix_rtc"), None);
    }
}
