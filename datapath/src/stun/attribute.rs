/// A 16-bit attribute type. The set is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeType(pub u16);

impl AttributeType {
    pub const MAPPED_ADDRESS: AttributeType = AttributeType(0x0001);
    pub const USERNAME: AttributeType = AttributeType(0x0006);
    pub const MESSAGE_INTEGRITY: AttributeType = AttributeType(0x0008);
    pub const ERROR_CODE: AttributeType = AttributeType(0x0009);
    pub const UNKNOWN_ATTRIBUTES: AttributeType = AttributeType(0x000A);
    pub const CHANNEL_NUMBER: AttributeType = AttributeType(0x000C);
    pub const LIFETIME: AttributeType = AttributeType(0x000D);
    pub const XOR_PEER_ADDRESS: AttributeType = AttributeType(0x0012);
    pub const DATA: AttributeType = AttributeType(0x0013);
    pub const REALM: AttributeType = AttributeType(0x0014);
    pub const NONCE: AttributeType = AttributeType(0x0015);
    pub const XOR_RELAYED_ADDRESS: AttributeType = AttributeType(0x0016);
    pub const REQUESTED_ADDRESS_FAMILY: AttributeType = AttributeType(0x0017);
    pub const EVEN_PORT: AttributeType = AttributeType(0x0018);
    pub const REQUESTED_TRANSPORT: AttributeType = AttributeType(0x0019);
    pub const DONT_FRAGMENT: AttributeType = AttributeType(0x001A);
    pub const MESSAGE_INTEGRITY_SHA256: AttributeType = AttributeType(0x001C);
    pub const PASSWORD_ALGORITHM: AttributeType = AttributeType(0x001D);
    pub const USERHASH: AttributeType = AttributeType(0x001E);
    pub const XOR_MAPPED_ADDRESS: AttributeType = AttributeType(0x0020);
    pub const RESERVATION_TOKEN: AttributeType = AttributeType(0x0022);
    pub const PRIORITY: AttributeType = AttributeType(0x0024);
    pub const USE_CANDIDATE: AttributeType = AttributeType(0x0025);
    /// RFC 6062 §6.2.1.
    pub const CONNECTION_ID: AttributeType = AttributeType(0x002A);
    pub const ADDITIONAL_ADDRESS_FAMILY: AttributeType = AttributeType(0x8000);
    pub const ADDRESS_ERROR_CODE: AttributeType = AttributeType(0x8001);
    pub const PASSWORD_ALGORITHMS: AttributeType = AttributeType(0x8002);
    pub const ICMP: AttributeType = AttributeType(0x8004);
    /// RFC 8489 §14.15.
    pub const ALTERNATE_SERVER: AttributeType = AttributeType(0x8023);
    /// RFC 8016 §3.4.
    pub const MOBILITY_TICKET: AttributeType = AttributeType(0x8030);
    pub const SOFTWARE: AttributeType = AttributeType(0x8022);
    pub const FINGERPRINT: AttributeType = AttributeType(0x8028);
    pub const ICE_CONTROLLED: AttributeType = AttributeType(0x8029);
    pub const ICE_CONTROLLING: AttributeType = AttributeType(0x802A);

    /// RFC 8489 §14: types below 0x8000 must be understood by whoever processes the message.
    pub fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// Whether a value of `value` is possible for this type. Unknown types take any value.
    pub(super) fn admits(self, value: &[u8]) -> bool {
        let length = value.len();
        match self {
            AttributeType::MAPPED_ADDRESS
            | AttributeType::ALTERNATE_SERVER
            | AttributeType::XOR_MAPPED_ADDRESS
            | AttributeType::XOR_PEER_ADDRESS
            | AttributeType::XOR_RELAYED_ADDRESS => match value {
                [_, 1, ..] => length == 8,
                [_, 2, ..] => length == 20,
                _ => false,
            },
            AttributeType::MESSAGE_INTEGRITY => length == 20,
            // RFC 8489 §14.6: it may be truncated to no less than 16 octets, in steps of four.
            AttributeType::MESSAGE_INTEGRITY_SHA256 => (16..=32).contains(&length) && length.is_multiple_of(4),
            AttributeType::CHANNEL_NUMBER
            | AttributeType::LIFETIME
            | AttributeType::REQUESTED_ADDRESS_FAMILY
            | AttributeType::ADDITIONAL_ADDRESS_FAMILY
            | AttributeType::REQUESTED_TRANSPORT
            | AttributeType::PRIORITY
            | AttributeType::CONNECTION_ID
            | AttributeType::FINGERPRINT => length == 4,
            AttributeType::RESERVATION_TOKEN | AttributeType::ICE_CONTROLLED | AttributeType::ICE_CONTROLLING => {
                length == 8
            }
            AttributeType::EVEN_PORT => length == 1,
            AttributeType::USERHASH => length == 32,
            AttributeType::DONT_FRAGMENT | AttributeType::USE_CANDIDATE => length == 0,
            // RFC 8489 §14.3: less than 509 octets.
            AttributeType::USERNAME => length < 509,
            AttributeType::REALM | AttributeType::NONCE | AttributeType::SOFTWARE => length <= 763,
            AttributeType::ERROR_CODE => {
                (4..=4 + 763).contains(&length) && (3..=6).contains(&(value[2] & 7)) && value[3] < 100
            }
            AttributeType::ADDRESS_ERROR_CODE => {
                (4..=4 + 763).contains(&length) && (3..=6).contains(&(value[2] & 7)) && value[3] < 100
            }
            AttributeType::UNKNOWN_ATTRIBUTES => length.is_multiple_of(2),
            _ => true,
        }
    }
}

/// One attribute as it stands in the message, without its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: AttributeType,
    pub value: &'a [u8],
}
