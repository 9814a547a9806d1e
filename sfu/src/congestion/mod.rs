//! Bandwidth: feedback in both directions, what a subscriber's link carries, and who gets how much of it.
//!
//! - [`FeedbackGenerator`] tells a publisher when its packets arrived (transport-wide congestion control).
//! - [`SentHistory`] remembers what was sent to a subscriber, so that its feedback can be read: the place where a
//!   delay-based estimator takes its input.
//! - [`LossAndRemb`] is the estimate of now: loss in receiver reports, and REMB.
//! - [`allocate`] gives every video of a subscriber an encoding that fits.

mod allocator;
mod feedback;
mod loss_and_remb;
mod sent_history;

pub use allocator::{VideoDemand, allocate};
pub use feedback::FeedbackGenerator;
pub use loss_and_remb::LossAndRemb;
pub use sent_history::{Acknowledged, SentHistory};
