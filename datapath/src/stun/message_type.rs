/// RFC 8489 §5: what a message is in its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Request,
    Indication,
    SuccessResponse,
    ErrorResponse,
}

/// A 12-bit method. The set is open: an unknown method is a value, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(pub u16);

impl Method {
    pub const BINDING: Method = Method(0x001);
    pub const ALLOCATE: Method = Method(0x003);
    pub const REFRESH: Method = Method(0x004);
    pub const SEND: Method = Method(0x006);
    pub const DATA: Method = Method(0x007);
    pub const CREATE_PERMISSION: Method = Method(0x008);
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// RFC 6062 §6.1.
    pub const CONNECT: Method = Method(0x00A);
    pub const CONNECTION_BIND: Method = Method(0x00B);
    pub const CONNECTION_ATTEMPT: Method = Method(0x00C);
}

/// The 96 bits by which a response finds its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 12]);

/// RFC 8489 §5, figure 3: the class bits C1 and C0 lie between the method bits.
pub(super) fn encode(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x0000,
        Class::Indication => 0x0010,
        Class::SuccessResponse => 0x0100,
        Class::ErrorResponse => 0x0110,
    };
    let m = method.0 & 0xFFF;
    class | (m & 0x00F) | (m & 0x070) << 1 | (m & 0xF80) << 2
}

/// The upper two bits of `word` are zero (the caller has checked).
pub(super) fn decode(word: u16) -> (Class, Method) {
    let class = match word & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::SuccessResponse,
        _ => Class::ErrorResponse,
    };
    let method = (word & 0x000F) | (word >> 1 & 0x0070) | (word >> 2 & 0x0F80);
    (class, Method(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_round_trip() {
        for word in 0..0x4000u16 {
            let (class, method) = decode(word);
            assert_eq!(encode(class, method), word);
        }
    }

    #[test]
    fn known_types() {
        assert_eq!(encode(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(encode(Class::SuccessResponse, Method::BINDING), 0x0101);
        assert_eq!(encode(Class::ErrorResponse, Method::ALLOCATE), 0x0113);
        assert_eq!(encode(Class::Indication, Method::DATA), 0x0017);
    }
}
