//! A room: nothing crosses from one to another.

/// Who is in it.
#[derive(Default)]
pub struct Room {
    /// Slab keys of its participants, in the order in which they came.
    pub participants: Vec<usize>,
}
