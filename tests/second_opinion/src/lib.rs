//! What ours encodes, others decode, and the reverse: see `tests/`.
