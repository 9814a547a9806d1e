//! Delegated leaves on disk: what is owed survives a kill -9.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::control::Control;
use crate::matrix::delayed_leave::{Change, Record};

/// Seat (JSON) → record (JSON).
const LEAVES: TableDefinition<&str, &[u8]> = TableDefinition::new("delayed_leaves");

/// A disk that takes nothing is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// One file, locked by the process that has it open.
pub struct LeaveStore {
    database: Database,
}

impl LeaveStore {
    /// Makes the file, readable for its owner alone, if there is none.
    pub fn open(path: &Path) -> io::Result<LeaveStore> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let database = Database::builder().create_file(file).map_err(io::Error::other)?;
        Ok(LeaveStore { database })
    }

    /// What an earlier run owed. What cannot be read (of another version) is passed over.
    pub fn load(&self) -> io::Result<Vec<Record>> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(LEAVES) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut records = Vec::new();
            for row in table.iter()? {
                match serde_json::from_slice(row?.1.value()) {
                    Ok(record) => records.push(record),
                    Err(error) => tracing::warn!(%error, "a delegated leave on disk cannot be read"),
                }
            }
            Ok::<_, redb::Error>(records)
        };
        read().map_err(io::Error::other)
    }

    /// Returns when the changes are on disk: all or none.
    pub fn apply(&self, changes: &[Change]) -> io::Result<()> {
        let write = || {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(LEAVES)?;
                for change in changes {
                    let key = serde_json::to_string(&change.seat).unwrap_or_default();
                    match &change.record {
                        Some(record) => {
                            let value = serde_json::to_vec(record).unwrap_or_default();
                            table.insert(key.as_str(), value.as_slice())?;
                        }
                        None => {
                            table.remove(key.as_str())?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        write().map_err(io::Error::other)
    }
}

/// Keeps what changes, until it is aborted.
pub async fn run(control: Arc<Control>, store: LeaveStore) {
    let store = Arc::new(store);
    loop {
        let (generation, changes) = control.leave_changes().await;
        let seats: Vec<_> = changes.iter().map(|change| change.seat.clone()).collect();
        let store = Arc::clone(&store);
        match tokio::task::spawn_blocking(move || store.apply(&changes)).await {
            Ok(Ok(())) => control.leaves_kept(generation),
            Ok(Err(error)) => {
                tracing::error!(%error, "delegated leaves cannot be written to matrix.store; a restart may forget them");
                control.leaves_not_kept(seats);
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::delayed_leave::Stage;
    use crate::matrix::{Delegation, Member, Seat};

    fn change(user: &str, stage: Option<Stage>) -> Change {
        let member = Member { room_id: "!r".into(), user_id: user.into(), device_id: "D".into() };
        let seat = Seat { member, call: "c".into(), identity: user.into() };
        let record = stage.map(|stage| Record {
            seat: seat.clone(),
            delegation: Delegation::new("syd_1", 3_600_000).unwrap(),
            stage,
            expires: Duration::from_secs(1_800_000_000),
        });
        Change { seat, record }
    }

    #[test]
    fn what_is_kept_is_there_after_an_end_without_a_word() {
        let folder = std::env::temp_dir().join(format!("hausruf-leaves-{}", std::process::id()));
        let path = folder.join("deeper/matrix.redb");
        let store = LeaveStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), []);
        let changes = ["@a:hs", "@b:hs", "@c:hs"].map(|user| change(user, Some(Stage::Present)));
        store.apply(&changes).unwrap();
        store.apply(&[change("@a:hs", None), change("@b:hs", Some(Stage::Leaving)), change("@x:hs", None)]).unwrap();
        assert!(LeaveStore::open(&path).is_err(), "somebody else's");
        // As a kill -9 leaves it: no destructor runs; the copy has no lock.
        let copy = folder.join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        let mut records = LeaveStore::open(&copy).unwrap().load().unwrap();
        records.sort_by(|a, b| a.seat.cmp(&b.seat));
        let stages: Vec<Stage> = records.iter().map(|record| record.stage).collect();
        assert_eq!(stages, [Stage::Leaving, Stage::Present]);
        assert_eq!(records[1], changes[2].record.clone().unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let path = std::env::temp_dir().join(format!("hausruf-no-store-{}", std::process::id()));
        std::fs::write(&path, "this is no database").unwrap();
        assert!(LeaveStore::open(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
