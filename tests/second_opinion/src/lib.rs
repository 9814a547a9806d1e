//! What ours encodes, others decode, and the reverse; what ours estimates, others estimate too: see `tests/`.
