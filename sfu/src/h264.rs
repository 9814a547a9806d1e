//! Keyframes of H.264 (RFC 6184), told from the clear octets: NAL unit headers.

const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// True in the packet with which a decoder can begin: the one with the sequence parameter set, which WebRTC senders
/// put before every IDR picture. An IDR slice alone is no beginning, since the parameters may be another encoding's.
pub fn is_keyframe_start(payload: &[u8]) -> bool {
    let Some((&header, rest)) = payload.split_first() else {
        return false;
    };
    match header & 0x1F {
        NAL_SPS => true,
        NAL_STAP_A => stap_a_types(rest).any(|kind| kind == NAL_SPS),
        // The S bit of the FU header: the unit begins here.
        NAL_FU_A => rest.first().is_some_and(|fu| fu & 0x80 != 0 && fu & 0x1F == NAL_SPS),
        _ => false,
    }
}

/// The types of the aggregated units (RFC 6184 §5.7.1).
fn stap_a_types(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = after;
        unit.first().map(|header| header & 0x1F)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_keyframe_begins_with_its_parameter_set() {
        assert!(is_keyframe_start(&[0x67, 1, 2]));
        assert!(is_keyframe_start(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68, 0, 1, 0x65]));
        assert!(is_keyframe_start(&[0x78, 0, 1, 0x09, 0, 1, 0x67]));
        assert!(is_keyframe_start(&[0x7C, 0x87]));
        assert!(!is_keyframe_start(&[0x7C, 0x07]), "not its first fragment");
        assert!(!is_keyframe_start(&[0x65, 1]), "IDR");
        assert!(!is_keyframe_start(&[0x68]), "PPS");
        assert!(!is_keyframe_start(&[0x41]));
        assert!(!is_keyframe_start(&[]));
    }

    #[test]
    fn broken_aggregates_are_no_keyframes() {
        assert!(!is_keyframe_start(&[0x78]));
        assert!(!is_keyframe_start(&[0x78, 0, 9, 0x67]));
        assert!(!is_keyframe_start(&[0x78, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn never_panics(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            is_keyframe_start(&payload);
        }
    }
}
