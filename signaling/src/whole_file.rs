//! A file that is there as a whole or not at all, also after a kill -9 or a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts a file with these octets, readable for its owner alone, in the place of what is there. Whoever goes on writing
/// appends to it.
///
/// # Errors
/// Those of the file system; what was there is there still.
pub fn replace_file(path: &Path, octets: &[u8]) -> io::Result<File> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // What a dead run left may have other permissions.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The path of a file in the working directory has no parent but an empty one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file)
}
