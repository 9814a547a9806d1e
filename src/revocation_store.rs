//! Whom the relay shuts out, kept across restarts.
//!
//! A file with a line for each change: appending one costs microseconds, and what a killed program has appended is
//! there. Now and then the file is written anew, without what is over.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datapath::driver::Clock;
use relay::WITHDRAWALS_MAX;
use serde::{Deserialize, Serialize};
use signaling::replace_file;
use tracing::warn;

/// Lines appended before the file is written anew. Some 2 MB.
const APPENDED_MAX: usize = 32_768;

/// A user who gets no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub user: String,
    /// Since the Unix epoch. What has passed lets it in again.
    pub until_s: u64,
    /// Its credential was withdrawn when somebody was removed from a call; else the operator revoked it.
    pub withdrawn: bool,
}

/// The file; clones share it. Without one nothing is kept.
#[derive(Clone, Default)]
pub struct RevocationStore(Option<Arc<Kept>>);

struct Kept {
    journal: Mutex<Journal>,
    /// Two programs would write the file anew over each other's lines. It ends with the program, however that ends.
    _lock: File,
}

struct Journal {
    path: PathBuf,
    file: File,
    appended: usize,
}

impl RevocationStore {
    /// Also says who is still shut out.
    ///
    /// # Errors
    /// The file can neither be read nor made, or another program has it. An empty path is none.
    pub fn open(path: &Path) -> io::Result<(RevocationStore, Vec<Revocation>)> {
        if path.as_os_str().is_empty() {
            return Ok((RevocationStore::default(), Vec::new()));
        }
        let lock = lock(path)?;
        let (journal, live) = Journal::open(path, unix_s())?;
        Ok((RevocationStore(Some(Arc::new(Kept { journal: Mutex::new(journal), _lock: lock }))), live))
    }

    /// Who is shut out according to a file that cannot be used, as far as it can be read.
    pub fn read(path: &Path) -> Vec<Revocation> {
        live(&fs::read(path).unwrap_or_default(), unix_s())
    }

    /// Keeps that these users are shut out for so long, from now on.
    pub fn keep(&self, users: &[String], time: Duration, withdrawn: bool) {
        let Some(kept) = &self.0 else { return };
        let now_s = unix_s();
        let until_s = now_s.saturating_add(time.as_secs());
        let revocations = users.iter().map(|user| Revocation { user: user.clone(), until_s, withdrawn });
        // A panic leaves at most a line that is not whole, which is passed over.
        let mut journal = kept.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = journal.append(revocations, now_s) {
            warn!(
                "{} cannot be written ({error}): who was just shut out of the relay gets in again after a restart",
                journal.path.display()
            );
        }
    }
}

impl Journal {
    fn open(path: &Path, now_s: u64) -> io::Result<(Journal, Vec<Revocation>)> {
        let written = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let live = live(&written, now_s);
        let mut lines = Vec::new();
        live.iter().try_for_each(|revocation| write_line(&mut lines, revocation))?;
        let file = replace_file(path, &lines)?;
        Ok((Journal { path: path.to_owned(), file, appended: 0 }, live))
    }

    fn append(&mut self, revocations: impl Iterator<Item = Revocation>, now_s: u64) -> io::Result<()> {
        let mut lines = Vec::new();
        for revocation in revocations {
            write_line(&mut lines, &revocation)?;
            self.appended += 1;
        }
        if self.appended > APPENDED_MAX {
            *self = Journal::open(&self.path, now_s)?.0;
        }
        let written = self.file.write_all(&lines);
        if written.is_err() {
            // Perhaps in the middle of a line.
            self.appended = APPENDED_MAX;
        }
        written
    }
}

/// Of a file beside it, since the file itself is replaced.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(beside)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(ErrorKind::ResourceBusy, "another program has it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn write_line(lines: &mut Vec<u8>, revocation: &Revocation) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, revocation)?;
    lines.push(b'\n');
    Ok(())
}

/// Who is still shut out, in the order in which it came. What is no whole line is passed over.
fn live(written: &[u8], now_s: u64) -> Vec<Revocation> {
    let lines = written.split(|octet| *octet == b'\n');
    let all: Vec<Revocation> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let last: HashMap<_, _> = all.iter().enumerate().map(|(at, one)| ((&one.user, one.withdrawn), at)).collect();
    let is_live = |(at, one): &(usize, &Revocation)| one.until_s > now_s && last[&(&one.user, one.withdrawn)] == *at;
    let live = || all.iter().enumerate().filter(is_live).map(|(_, one)| one);
    // The relay forgets the first ones too.
    let mut surplus = live().filter(|one| one.withdrawn).count().saturating_sub(WITHDRAWALS_MAX);
    let is_kept = |one: &&Revocation| {
        let is_surplus = one.withdrawn && surplus > 0;
        surplus -= usize::from(is_surplus);
        !is_surplus
    };
    live().filter(is_kept).cloned().collect()
}

fn unix_s() -> u64 {
    Clock::new().read().unix.as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of one test; gone with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = std::env::temp_dir().join(format!("hausruf-revocations-{name}-{}", std::process::id()));
            fs::create_dir_all(&place).unwrap();
            Place(place)
        }

        fn file(&self) -> PathBuf {
            self.0.join("revocations.jsonl")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn of(user: &str, until_s: u64, withdrawn: bool) -> Revocation {
        Revocation { user: user.into(), until_s, withdrawn }
    }

    #[test]
    fn a_file_that_another_has_can_still_be_read() {
        let place = Place::new("read");
        let (store, _) = RevocationStore::open(&place.file()).unwrap();
        store.keep(&["anna".to_owned()], Duration::from_secs(60), false);
        assert!(RevocationStore::open(&place.file()).is_err());
        let users: Vec<String> = RevocationStore::read(&place.file()).into_iter().map(|one| one.user).collect();
        assert_eq!(users, ["anna"]);
        assert_eq!(RevocationStore::read(Path::new("/nowhere/at/all")), []);
    }

    #[test]
    fn what_is_over_or_was_taken_back_is_forgotten_and_the_rest_is_kept() {
        let place = Place::new("kept");
        let (mut journal, live) = Journal::open(&place.file(), 0).unwrap();
        assert_eq!(live, []);
        let all = [
            of("anna", 100, false),
            of("ben", 10, false),
            of("PA_1", 100, true),
            of("clara", 100, false),
            // Let in again by the operator, but not into the call.
            of("clara", 5, false),
            of("anna", 100, true),
            of("PA_1", 200, true),
        ];
        journal.append(all.iter().cloned(), 5).unwrap();
        let (_, live) = Journal::open(&place.file(), 10).unwrap();
        assert_eq!(live, [all[0].clone(), all[5].clone(), all[6].clone()]);
        let written = fs::read_to_string(place.file()).unwrap();
        assert_eq!(written.lines().count(), 3, "{written}");
        assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Journal::open(&place.file(), 200).unwrap().1, []);
        assert_eq!(fs::read(place.file()).unwrap(), b"");
    }

    #[test]
    fn what_a_killed_program_left_of_a_line_is_passed_over() {
        let place = Place::new("torn");
        fs::write(place.file(), b"{\"user\":\"anna\",\"until_s\":9,\"withdrawn\":false}\n\xFF\n{\"user\":\"be")
            .unwrap();
        assert_eq!(Journal::open(&place.file(), 0).unwrap().1, [of("anna", 9, false)]);
    }

    #[test]
    fn the_file_and_what_is_read_of_it_are_bounded() {
        let place = Place::new("bounded");
        let (mut journal, _) = Journal::open(&place.file(), 0).unwrap();
        journal.append([of("anna", 9, false)].into_iter(), 0).unwrap();
        for user in 0..3 * APPENDED_MAX {
            journal.append([of(&user.to_string(), 9, true)].into_iter(), 0).unwrap();
        }
        let written = fs::read_to_string(place.file()).unwrap();
        assert!(written.lines().count() <= APPENDED_MAX + WITHDRAWALS_MAX + 2);
        let (_, live) = Journal::open(&place.file(), 0).unwrap();
        assert_eq!(live.len(), 1 + WITHDRAWALS_MAX);
        assert_eq!(live.last(), Some(&of(&(3 * APPENDED_MAX - 1).to_string(), 9, true)));
        assert_eq!(live[0], of("anna", 9, false), "who is withdrawn takes no room from the operator");
    }

    #[test]
    fn a_file_that_another_program_has_is_an_error() {
        let place = Place::new("two");
        let (first, _) = RevocationStore::open(&place.file()).unwrap();
        let refused = RevocationStore::open(&place.file()).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "another program has it");
        first.keep(&["anna".into()], Duration::from_secs(60), false);
        drop(first);
        let (_, live) = RevocationStore::open(&place.file()).unwrap();
        assert_eq!(live.len(), 1, "what the first one kept");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_no_place_is_none() {
        let place = Place::new("missing");
        assert!(RevocationStore::open(&place.0.join("no/such/folder")).is_err());
        let (store, live) = RevocationStore::open(Path::new("")).unwrap();
        assert_eq!(live, []);
        store.keep(&["anna".into()], Duration::from_secs(1), false);
    }
}
