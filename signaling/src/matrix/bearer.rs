use aws_lc_rs::constant_time;

/// Whether the value of an Authorization header is `Bearer` and this token. How long that takes tells nothing of the token
/// but its length.
pub fn is_bearer(authorization: &[u8], token: &str) -> bool {
    let Some((scheme, presented)) = authorization.split_at_checked("bearer ".len()) else {
        return false;
    };
    // RFC 9110 §11.1: the scheme's case does not matter.
    scheme.eq_ignore_ascii_case(b"bearer ")
        && !token.is_empty()
        && constant_time::verify_slices_are_equal(presented, token.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_will_do() {
        for right in ["Bearer secret", "bearer secret"] {
            assert!(is_bearer(right.as_bytes(), "secret"));
        }
        for wrong in
            ["", "Bearer", "Bearer ", "secret", "Bearer secre", "Bearer secrets", "Basic secret", "Bearer  secret"]
        {
            assert!(!is_bearer(wrong.as_bytes(), "secret"), "{wrong}");
        }
        assert!(!is_bearer(b"Bearer ", ""));
    }
}
