//! Unguessable octets of the operating system.

pub fn octets<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(octets)
}

/// `length` octets as hexadecimal digits.
pub fn hex(length: usize) -> anyhow::Result<String> {
    let mut octets = vec![0; length];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}
