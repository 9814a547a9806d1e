//! What the operator can do about an error of the system.

use std::io::{Error, ErrorKind};

/// About an address that cannot be listened on.
pub fn for_address(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "is coturn or another instance running?",
        ErrorKind::AddrNotAvailable => {
            r#"no interface has this address; behind NAT write "[::]" in its place, and the public one in advertise"#
        }
        ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "write another address",
    }
}

/// About a file of PEM that cannot be used.
pub fn for_reading(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "the user that this program runs as has to be able to read it",
        _ => "write the path of a PEM file",
    }
}

/// About a file that this program keeps for itself.
pub fn for_writing(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "the user that this program runs as has to be able to write there"
        }
        ErrorKind::NotFound => "make its folder",
        _ => "is another instance running?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_instance_is_suspected_only_where_it_may_be() {
        use ErrorKind::{AddrInUse, AddrNotAvailable, NotFound, Other, PermissionDenied};
        for (told, words) in [
            (for_address(&AddrInUse.into()), "another instance"),
            (for_address(&AddrNotAvailable.into()), "advertise"),
            (for_address(&PermissionDenied.into()), "CAP_NET_BIND_SERVICE"),
            (for_reading(&PermissionDenied.into()), "able to read"),
            (for_reading(&NotFound.into()), "PEM"),
            (for_writing(&PermissionDenied.into()), "able to write"),
            (for_writing(&NotFound.into()), "folder"),
            (for_writing(&Other.into()), "another instance"),
        ] {
            assert!(told.contains(words), "{words:?} is not in: {told}");
        }
    }
}
